"""Aliases: one normal form for whatever is dialed, and mappings and sets of them."""

import copy
import pickle
import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pexpolicy import Alias, AliasMap, AliasSet
from pexpolicy.models.alias import MAX_COMPOSED, without_password

FORMS = [
    # written, normal form, scheme, user, host
    ("bob", "bob", "", "bob", ""),
    ("Bob", "bob", "", "bob", ""),
    ("  bob\t", "bob", "", "bob", ""),
    ("bob@example.com", "bob@example.com", "", "bob", "example.com"),
    ("sip:Bob@Example.com:5060;transport=tls", "bob@example.com", "sip", "bob", "example.com"),
    ("SIP:bob@example.com", "bob@example.com", "sip", "bob", "example.com"),
    ("sips:bob@example.com", "bob@example.com", "sips", "bob", "example.com"),
    ("Sips:bob@example.com:5061", "bob@example.com", "sips", "bob", "example.com"),
    ("sip:bob@example.com?subject=x", "bob@example.com", "sip", "bob", "example.com"),
    ("sip:bob@example.com;a=b?subject=x", "bob@example.com", "sip", "bob", "example.com"),
    ("sip:bob;phone-context=x@example.com", "bob@example.com", "sip", "bob", "example.com"),
    ("sip:bob@example.com.", "bob@example.com", "sip", "bob", "example.com"),
    ("sip:bob", "bob", "sip", "bob", ""),
    ("sip: bob@example.com", "bob@example.com", "sip", "bob", "example.com"),
    ("sip:bob@10.0.0.1:5060", "bob", "sip", "bob", "10.0.0.1"),
    ("sip:bob@10.144.101.21;transport=tls", "bob", "sip", "bob", "10.144.101.21"),
    ("sip:bob@[2001:DB8::1]", "bob", "sip", "bob", "[2001:db8::1]"),
    ("sip:bob@[2001:db8::1]:5060", "bob", "sip", "bob", "[2001:db8::1]"),
    ("bob@2001:db8::1", "bob", "", "bob", "2001:db8::1"),
    ("bob@10.0.0.300", "bob@10.0.0.300", "", "bob", "10.0.0.300"),
    ("@10.0.0.1", "@10.0.0.1", "", "", "10.0.0.1"),
    ("a@b.example@10.0.0.1", "a@b.example@10.0.0.1", "", "a@b.example", "10.0.0.1"),
    ("sip:[2001:db8::1]:5060", "[2001:db8::1]", "sip", "[2001:db8::1]", ""),
    ("h323:bob", "bob", "h323", "bob", ""),
    ("H323:Bob@example.com:1720", "bob@example.com", "h323", "bob", "example.com"),
    ("h323:+4712345678", "+4712345678", "h323", "+4712345678", ""),
    ("tel:+4712345678", "+4712345678", "tel", "+4712345678", ""),
    ("TEL:+47-12.34(56) 78", "+4712345678", "tel", "+4712345678", ""),
    ("tel:+4712345678;ext=99", "+4712345678", "tel", "+4712345678", ""),
    ("+4712345678", "+4712345678", "", "+4712345678", ""),
    ("+47 12", "+47 12", "", "+47 12", ""),
    ("<sip:bob@example.com>;tag=1", "<sip:bob@example.com>", "", "<sip:bob", "example.com>"),
    ("room:102", "room:102", "", "room:102", ""),
    ("10.0.0.1:5060", "10.0.0.1", "", "10.0.0.1", ""),
    ("bob@example.com:", "bob@example.com", "", "bob", "example.com"),
    ("sip:user:secret@example.com", "user@example.com", "sip", "user", "example.com"),
    ("room:102@example.com", "room:102@example.com", "", "room:102", "example.com"),
    ("bob@example.com;a@b", "bob@example.com", "", "bob", "example.com"),
    ("sip:sip:bob@example.com", "bob@example.com", "sip", "bob", "example.com"),
    ("http:bob", "http:bob", "", "http:bob", ""),
    ("a@b@example.com", "a@b@example.com", "", "a@b", "example.com"),
    ("bob%40example.com", "bob%40example.com", "", "bob%40example.com", ""),
    ("bob+x@example.com", "bob+x@example.com", "", "bob+x", "example.com"),
    ("STRASSE@ÆØÅ.example", "strasse@æøå.example", "", "strasse", "æøå.example"),
    ("Cafe\u0301@Bu\u0308ro.example", "café@büro.example", "", "café", "büro.example"),
    ("\u1100\u1161", "\uac00", "", "\uac00", ""),
    ("tel:a-\u0301", "á", "tel", "á", ""),
    ("sip:bob\u037etag", "bob", "sip", "bob", ""),
    ("", "", "", "", ""),
    ("sip:", "", "sip", "", ""),
    ("   ", "", "", "", ""),
]


@pytest.mark.parametrize(("written", "normal", "scheme", "user", "host"), FORMS)
def test_each_form_has_one_normal_form(
    written: str, normal: str, scheme: str, user: str, host: str
) -> None:
    alias = Alias(written)
    assert alias == normal
    assert (alias.scheme, alias.user, alias.host) == (scheme, user, host)
    assert alias.raw == written
    assert alias.bare == ("@" not in normal)


PARTS = st.sampled_from(
    [
        *("sip:", "SIPS:", "h323:", "tel:", "bob", "Example.com", "@", ":", ";", "?", "=", "+"),
        *("5060", "99999", "[2001:db8::1]", "<", ">", '"', " ", "\t", "\n", ".", "%40", "%", "-"),
        *("(", ")", "İ", "ß", "\u017f", "\u212a", "\u00a0", "\x00", "\udcff", "é", "e\u0301"),
    ]
)
TEXTS = st.text() | st.lists(PARTS, max_size=12).map("".join)


@given(TEXTS)
@example("sip:sip:bob")
@example("a:1:2")
@example("a.@b..")
@example("@b;c")
@example("<<sip:a>>")
@example("tel:-")
@example("a@b@")
def test_no_text_is_too_strange_and_its_pieces_fit_together(text: str) -> None:
    alias = Alias(text)
    assert alias.raw == text
    assert alias in ({f"{alias.user}@{alias.host}", alias.user} if alias.host else {alias.user})
    assert alias.scheme in ("", "sip", "sips", "h323", "tel")


USERS = st.text("abcXYZ0189._-+", min_size=1, max_size=20)
NAMES = st.from_regex(r"[a-zA-Z]{1,8}(\.[a-zA-Z]{2,5}){1,3}", fullmatch=True)
ADDRESSES = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map("[{}]".format)
SCHEMES = st.sampled_from(["", "sip:", "sips:", "h323:", "SIP:"])
ENDINGS = st.sampled_from(["", ":5060", ";transport=tls", ":5061;transport=tls;lr", "?a=b", " "])


@given(USERS, NAMES, SCHEMES, ENDINGS)
def test_every_spelling_of_an_address_is_the_same_alias(
    user: str, host: str, scheme: str, ending: str
) -> None:
    assert Alias(scheme + user + "@" + host + ending) == f"{user}@{host}".lower()


@given(USERS, ADDRESSES, SCHEMES, ENDINGS)
def test_a_host_that_is_an_address_is_no_part_of_the_normal_form(
    user: str, host: str, scheme: str, ending: str
) -> None:
    alias = Alias(scheme + user + "@" + host + ending)
    assert alias == user.lower()
    assert alias.host == host


@given(TEXTS)
@example("sip:sip:bob@x")
@example("bob@ex.com:.:")
@example("a@10.0.0.1@10.0.0.2")
@example("sip:a:b:c@x")
def test_the_normal_form_of_a_normal_form_is_itself(text: str) -> None:
    assert Alias(str(Alias(text))) == Alias(text)


LETTERS = st.text(
    "aeoucnåéöüçñøßŞİς漢가힣\u1100\u1161\u0301\u0308\u0327\u0323\u037e@.;:", max_size=20
)


@given(LETTERS | TEXTS, st.sampled_from(["", "sip:", "H323:"]))
def test_an_accent_may_be_a_character_of_its_own(text: str, scheme: str) -> None:
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
    composed, decomposed, written = (Alias(scheme + form) for form in (*forms, text))
    assert composed == decomposed == written
    assert composed == unicodedata.normalize("NFC", composed)


def test_an_alias_that_is_too_long_is_not_composed() -> None:
    text = "e\u0301" * MAX_COMPOSED
    assert Alias(text) == text
    assert Alias(text[:MAX_COMPOSED]) == "é" * (MAX_COMPOSED // 2)


def test_an_alias_is_a_string() -> None:
    alias = Alias("sip:Bob@Example.com")
    assert {"bob@example.com": 1}[alias] == 1
    assert f"{alias}" == "bob@example.com"
    assert repr(alias) == "Alias('sip:Bob@Example.com')"
    assert not Alias("")
    assert not Alias("sip:")


def test_an_alias_survives_the_way_to_another_program() -> None:
    alias = pickle.loads(pickle.dumps(Alias("sip:Bob@Example.com")))  # noqa: S301 - our own
    assert isinstance(alias, Alias)
    assert (alias, alias.raw, alias.scheme) == ("bob@example.com", "sip:Bob@Example.com", "sip")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sip:bob:secret@example.com", "sip:bob:***@example.com"),
        ("SIPS:Bob:secret@10.0.0.1;transport=tls", "SIPS:Bob:***@10.0.0.1;transport=tls"),
        ("bob:secret@example.com", "bob:***@example.com"),
        ("h323:sip:bob:secret@example.com", "h323:sip:bob:***@example.com"),
        ("<sip:bob:secret@[2001:db8::1]>", "<sip:bob:***@[2001:db8::1]>"),
        # A long s: in lower case no scheme, so what follows is a password.
        ("\u017fip:secret@example.com", "\u017fip:***@example.com"),
        ("sip:\u017fips:secret@example.com", "sip:\u017fips:***@example.com"),
        ("sip:bob@example.com:5060", "sip:bob@example.com:5060"),
        ("sip:bob", "sip:bob"),
    ],
)
def test_the_password_of_a_uri_is_shown_nowhere(uri: str, shown: str) -> None:
    assert without_password(uri) == shown


def test_the_time_of_many_schemes_grows_with_their_number() -> None:
    def seconds(count: int) -> float:
        """Return the least processor time of three attempts."""
        taken = []
        for _ in range(3):
            began = time.process_time()
            assert Alias("sip:" * count + "bob@example.com") == "bob@example.com"
            taken.append(time.process_time() - began)
        return min(taken)

    # 16 times as long; with their square it would be 256.
    assert seconds(64_000) < 64 * seconds(4_000)


SPELLINGS = ["bob@example.com", "SIP:Bob@Example.com:5060;transport=tls", " bob@EXAMPLE.com "]


@pytest.mark.parametrize("written", SPELLINGS)
@pytest.mark.parametrize("asked", [*SPELLINGS, *map(Alias, SPELLINGS)])
def test_any_spelling_finds_any_spelling(written: str, asked: str) -> None:
    table = AliasMap({written: 1, "other": 2})
    assert table[asked] == 1
    assert table.get(asked) == 1
    assert asked in table
    assert asked in AliasSet([written])


def test_what_is_not_there_is_not_found() -> None:
    table = AliasMap({"bob@example.com": 1})
    number: object = 5
    assert table.get("alice@example.com") is None
    assert table.get(Alias("alice@example.com"), 3) == 3
    with pytest.raises(KeyError):
        table["bob"]
    assert "bob" not in table
    assert number not in table
    assert "bob" not in AliasSet(table)
    assert number not in AliasSet(table)


def test_the_keys_keep_what_was_written() -> None:
    table = AliasMap([("SIP:Bob@Example.com", 1), ("Alice", 2)])
    assert [(alias.raw, alias, value) for alias, value in table.items()] == [
        ("SIP:Bob@Example.com", "bob@example.com", 1),
        ("Alice", "alice", 2),
    ]
    assert repr(table) == "AliasMap({Alias('SIP:Bob@Example.com'): 1, Alias('Alice'): 2})"


def test_two_spellings_of_one_alias_are_refused() -> None:
    with pytest.raises(ValueError, match="'Bob' is the same alias as 'sip:bob'"):
        AliasMap([("sip:bob", 1), ("Bob", 2)])
    assert len(AliasSet(["sip:bob", "Bob"])) == 1


def test_a_password_in_an_alias_is_not_shown() -> None:
    with pytest.raises(ValueError, match="same alias") as caught:
        AliasMap([("sip:bob:hush@example.com", 1), ("bob@example.com", 2)])
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("written", ["", "  ", "sip:", "@example.com"])
def test_what_is_no_alias_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="must be an alias"):
        AliasMap({written: 1})
    with pytest.raises(ValueError, match="must be an alias"):
        AliasSet([written])


def test_they_compare_and_copy_like_a_mapping_and_a_set() -> None:
    table = AliasMap({"Bob": 1})
    assert table == AliasMap({"sip:bob": 1}) == {"bob": 1}
    assert table != AliasMap({"bob": 2})
    assert AliasSet(["Bob"]) == AliasSet(["sip:bob"])
    assert hash(AliasSet(["Bob"])) == hash(AliasSet(["sip:bob"]))
    assert AliasSet(["a"]) | AliasSet(["B"]) == {"a", "b"}
    for again in (copy.deepcopy(table), pickle.loads(pickle.dumps(table))):  # noqa: S301
        assert again == table
        assert again["SIP:BOB"] == 1
