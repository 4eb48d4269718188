"""Driver ``ldap``, with a real slapd."""

import asyncio
import base64
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pexpolicy import Alias, SettingsError
from pexpolicy_sources import Found, QueryError, SourceUnavailableError
from pexpolicy_sources.ldap import LdapQuery, LdapSettings, LdapSource
from tests.support import programs, slapd
from tests.support.outages import stale_while_down
from tests.support.secret_canaries import PIN, find_canaries
from tests.support.waiting import until

pytestmark = programs.needs_compiled("python-ldap")

PICTURE = bytes(range(256))
CROWD = 450
BY_MAIL = "(mail={alias}) name=cn pin=employeeNumber"


def source(server: slapd.Server, **more: Any) -> LdapSource:
    keys = {**server.settings(timeout=5), **more}
    return LdapSource(LdapSettings.model_validate(keys))


@pytest.mark.parametrize("name", ["url", "secure_url"])
async def test_an_entry_is_found_by_an_alias_over_tls(directory: slapd.Server, name: str) -> None:
    async with source(directory, url=getattr(directory, name)) as made:
        lookup = made.lookup(BY_MAIL, ["alias"])
        alias = Alias("sip:Clinic@Example.com:5060")
        assert list((await lookup.ask(alias=alias)).rows) == [{"name": "Anna", "pin": "0482"}]
        assert await lookup.ask(alias="nobody") == Found([], 0.0)
        await lookup.ask(alias="nobody")
        assert (lookup.fetches, lookup.hits) == (2, 1)


async def test_several_values_are_a_list_and_binary_ones_base64(directory: slapd.Server) -> None:
    async with source(directory) as made:
        query = "(mail={alias}) aliases=mail picture=jpegPhoto small=thumbnailPhoto id=dn"
        lookup = made.lookup(query, ["alias"])
        (bob,) = (await lookup.ask(alias="B@example.com")).rows
        assert bob == {
            "aliases": ["bob@example.com", "b@example.com"],
            "id": f"uid=bob,{slapd.BASE}",
        }
        (photo,) = (await lookup.ask(alias="photo")).rows
        assert base64.b64decode(photo["picture"]) == PICTURE
        assert base64.b64decode(photo["small"]) == b"GIF89a", "also if it could be text"
        (every,) = (await made.lookup("(mail={alias})", ["alias"]).ask(alias="photo")).rows
        assert every["uid"] == every["sn"] == "photo"
        assert base64.b64decode(every["jpegphoto"]) == PICTURE


async def test_names_of_attributes_are_compared_without_case(directory: slapd.Server) -> None:
    async with source(directory) as made:
        lookup = made.lookup("(MAIL={alias}) CN id=Uid PIN=employeenumber", ["alias"])
        (row,) = (await lookup.ask(alias="clinic@example.com")).rows
    assert row == {"cn": "Anna", "id": "anna", "PIN": "0482"}
    certificate = LdapQuery("(cn=x) userCertificate", []).row(
        "cn=x", {"userCertificate;binary": [b"0"]}
    )
    assert certificate == {"usercertificate": "MA=="}


async def test_a_snapshot_has_more_entries_than_the_server_returns_at_once(
    directory: slapd.Server, tmp_path: Path
) -> None:
    query, file = "(uid=c*) name=cn", tmp_path / "snapshot.json"
    async with (
        source(directory, page_size=100) as made,
        made.snapshot(query, list, every=60, file=file) as crowd,
    ):
        assert len({row["name"] for row in crowd.value}) == CROWD
        # At once it is refused.
        with pytest.raises(QueryError, match="Size limit exceeded"):
            await made.lookup(query, []).ask()
    # The source is not open: this is a start without it.
    async with source(directory, page_size=100).snapshot(query, list, every=60, file=file) as crowd:
        assert len(crowd.value) == CROWD


@pytest.mark.parametrize(("scope", "count"), [("subtree", CROWD), ("onelevel", 0)])
async def test_scope_says_how_deep_a_search_is(
    directory: slapd.Server, scope: str, count: int
) -> None:
    async with source(directory, scope=scope) as made:
        async with made.snapshot("(uid=c*) uid", list, every=60) as crowd:
            assert len(crowd.value) == count
        async with made.snapshot("(uid=anna) uid", list, every=60) as anna:
            assert anna.value == [{"uid": "anna"}]


# slapd compares as X.500 says: without regard to case and repeated blanks.
ALIASES = st.text(st.characters(), max_size=30) | st.sampled_from(
    ["*", "(odd)\\", "\\2a", "*)(uid=*", "x)(|(uid=*))", "anna*", "a\0", "{alias}", "photo\n"]
)


@given(texts=st.lists(ALIASES, min_size=1, max_size=20, unique=True))
@example(["*", "(odd)\\", "clinic@example.com", "photo"])
def test_no_text_is_more_than_a_value(directory: slapd.Server, texts: list[str]) -> None:
    known = {"*": "stars", "(odd)\\": "odd", "clinic@example.com": "anna", "photo": "photo"}

    async def ask() -> None:
        async with source(directory, refresh_after=0) as made:
            exact = made.lookup("(mail={text}) uid", ["text"])
            search = made.lookup("(|(cn=*{text}*)(&(uid=none)(!(cn={text})))) uid", ["text"])
            for text in texts:
                rows = [row["uid"] for row in (await exact.ask(text=text)).rows]
                folded = " ".join(text.lower().split())
                assert rows in ([], [known.get(folded, "")]), text
                assert rows or text not in known
                if any(character in text for character in "*()\\"):
                    found = {row["uid"] for row in (await search.ask(text=text)).rows}
                    assert found <= {"stars", "odd"}, text

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "has no filter at '': write one such as"),
        ("mail={alias}", r"has no filter at 'mail=\{alias\}'"),
        ("({alias}=x)", r"has no filter at '\(\{alias\}=x\)'"),
        ("(mail{alias}=x)", "has no filter at"),
        ("(mail={alias}", "has no filter at"),
        ("(mail=a(b)", "has no filter at"),
        ("(mail=\\zz)", "has no filter at"),
        ("(&)", "has no filter at"),
        ("(!(a=b)(c=d))", "has no filter at"),
        ("(&(a=b)(c=d)", "has no filter at"),
        ("(mail={als})", r"has the parameter \{als\}; there is: \{alias\}"),
        ("(mail={alias}) name:cn", "has 'name:cn' after the filter"),
        ("(mail={alias})(cn=x)", r"has '\(cn=x\)' after the filter"),
        ("(mail=)", "has no filter at"),
        ("(=x)", "has no filter at"),
        ("(:=x)", "has no filter at"),
    ],
)
def test_a_query_is_checked_when_it_is_prepared(query: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        LdapQuery(query, ["alias"])


@pytest.mark.parametrize("text", ["(:caseExactMatch:=x)", "(:dn:2.5.13.5:=x)", "(cn:dn:=x)"])
def test_a_filter_may_name_a_rule(text: str) -> None:
    assert LdapQuery(text, []).fill({}) == text


def test_a_part_of_the_values_is_an_error() -> None:
    query = LdapQuery("(cn={alias}) member", ["alias"])
    with pytest.raises(QueryError, match="member has more values than the server sends at once"):
        query.row("cn=all", {"member": [], "member;range=0-1499": [b"uid=a", b"uid=b"]})
    query = LdapQuery("(cn={alias}) id=DN member", ["alias"])
    assert query.row("cn=all", {"member": [b"uid=a"]}) == {"id": "cn=all", "member": "uid=a"}
    assert query.attributes == ["member"]


def test_a_filter_may_be_written_on_several_lines() -> None:
    written = "(& (objectClass=person)\n  (| (mail=sip:{alias}) (cn:caseExactMatch:=\\28{alias}*)))"
    query = LdapQuery(f"{written} name=cn", ["alias"])
    filled = query.fill({"alias": "a*"})
    assert filled == "(&(objectClass=person)(|(mail=sip:a\\2a)(cn:caseExactMatch:=\\28a\\2a*)))"
    assert query.fill({"alias": ""}) is None, "it would match everything"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"base": "", "ca_file": "/none.pem"}, "ca_file: "),
        ({"base": "acme.example"}, "base: is not a DN: write it as in dc=acme,dc=example"),
    ],
)
def test_a_setting_that_cannot_be_used_names_its_key(keys: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        LdapSource(LdapSettings.model_validate({"url": "ldaps://h", **keys}))
    assert str(raised.value.problems[0]).startswith(said)


async def test_a_certificate_of_another_authority_is_refused(directory: slapd.Server) -> None:
    for name in ("url", "secure_url"):
        own = directory.folder / "server.pem"  # no authority signed with it
        async with source(directory, url=getattr(directory, name), ca_file=str(own)) as made:
            with pytest.raises(SourceUnavailableError, match="certificate"):
                await made.lookup(BY_MAIL, ["alias"]).ask(alias="anna")


async def test_a_wrong_password_is_in_no_message_and_tried_at_one_server_only(
    directory: slapd.Server, tmp_path: Path
) -> None:
    secret = tmp_path / "x.password"
    secret.write_text(PIN)
    keys = {"url": [directory.url, directory.secure_url], "password_file": str(secret)}
    async with source(directory, **keys) as made:
        lookup = made.lookup(BY_MAIL, ["alias"])
        with pytest.raises(SourceUnavailableError, match="Invalid credentials") as raised:
            await lookup.ask(alias="anna")
        assert directory.secure_url not in str(raised.value)
        assert not find_canaries(f"{raised.value!r} {made.status()} {made.settings!r} {made!r}")


async def test_a_base_that_does_not_exist_is_an_error_of_the_query(directory: slapd.Server) -> None:
    async with source(directory, base="dc=other") as made:
        with pytest.raises(QueryError, match="No such object"):
            await made.lookup(BY_MAIL, ["alias"]).ask(alias="anna")


@pytest.mark.parametrize(
    ("extended", "keys", "checks"),
    [
        ("1.3.6.1.4.1.1466.20037", {}, "check tls"),
        ("", {"base": "dc=other"}, "check base"),
        ("", {"user": f"cn=other,{slapd.BASE}"}, "check user"),
    ],
)
async def test_a_refusal_names_the_setting_that_leads_to_it(
    directory: slapd.Server, monkeypatch: pytest.MonkeyPatch, extended: str, keys: Any, checks: str
) -> None:
    async with source(directory, **keys) as made:
        if extended:  # as a server without StartTLS refuses it
            ldap = pytest.importorskip("ldap")

            def refuse(_: object) -> None:
                raise ldap.PROTOCOL_ERROR({"desc": "Protocol error", "info": extended})

            monkeypatch.setattr("ldap.ldapobject.SimpleLDAPObject.start_tls_s", refuse)
        with pytest.raises((SourceUnavailableError, QueryError), match=checks):
            await made.lookup(BY_MAIL, ["alias"]).ask(alias="anna")


async def test_answers_are_stale_in_an_outage_and_new_after_it(directory: slapd.Server) -> None:
    async with source(directory, timeout=0.3, refresh_after=0, max_age=60) as made:
        await stale_while_down(directory, made.lookup(BY_MAIL, ["alias"]), "b@example.com")


async def test_a_restarted_server_costs_no_call(directory: slapd.Server) -> None:
    async with source(directory, refresh_after=0) as made:
        lookup = made.lookup(BY_MAIL, ["alias"])
        await lookup.ask(alias="photo")
        directory.kill()
        directory.start()
        assert (await lookup.ask(alias="photo")).age == 0.0
        assert lookup.failures == 0


@pytest.mark.parametrize("first", ["dead", "frozen"])
async def test_the_next_server_answers_when_the_first_does_not(
    directory: slapd.Server, first: str
) -> None:
    with slapd.Server.running() as other:
        async with source(other, refresh_after=0, timeout=5, url=[other.url, directory.url]) as m:
            lookup = m.lookup("(uid={uid}) uid", ["uid"])
            assert not (await lookup.ask(uid="anna")).rows, "the first answers"
            if first == "dead":
                other.kill()
            with other.frozen() if first == "frozen" else nullcontext():
                for _ in range(5):
                    assert (await lookup.ask(uid="anna")).rows == [{"uid": "anna"}]
            assert lookup.failures == 0


async def test_closing_leaves_neither_threads_nor_connections(directory: slapd.Server) -> None:
    before = threading.active_count()
    for _ in range(10):
        async with source(directory) as made:
            lookup = made.lookup(BY_MAIL, ["alias"])
            await asyncio.gather(*(lookup.ask(alias=f"room{n}") for n in range(8)))
    with directory.frozen():
        async with source(directory, timeout=0.1) as made:
            with pytest.raises(SourceUnavailableError):
                await made.lookup(BY_MAIL, ["alias"]).ask(alias="anna")
    await until(lambda: threading.active_count() <= before and not directory.connections())
