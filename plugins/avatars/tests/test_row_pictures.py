"""Pictures from sources: a real slapd, and a database."""

import base64
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from pexpolicy import Avatar
from pexpolicy.testing import ConfigError, make_policy
from pexpolicy_avatars import Avatars
from pexpolicy_sources.ldap import LdapSettings, LdapSource
from pexpolicy_sources.sql import SqlSettings, SqlSource
from tests.support import programs, slapd
from tests.support.avatars import BLUE, RED, Asker, color_of, picture
from tests.support.waiting import until

SMALL, LARGE = picture(color=RED), picture(color=BLUE)
PEOPLE: dict[str, dict[str, Any]] = {
    "anna": {"mail": ["Anna@Example.com", "a@example.com"], "thumbnailPhoto": SMALL},
    "both": {"mail": "both@example.com", "thumbnailPhoto": SMALL, "jpegPhoto": [LARGE, SMALL]},
    "none": {"mail": "none@example.com"},
    "twin": {"mail": "twins@example.com", "thumbnailPhoto": SMALL},
    "twin2": {"mail": "twins@example.com"},
    "text": {"mail": "text@example.com", "thumbnailPhoto": b"no picture"},
    "stars": {"mail": "*", "thumbnailPhoto": LARGE},
    "odd": {"mail": ")(odd=\\", "thumbnailPhoto": LARGE},
}
NO_PICTURE = "PictureError: the first column with a value is no picture in Base64"
QUERY = "(mail={alias}) jpegPhoto thumbnailPhoto"


@pytest.fixture(scope="module")
def people() -> Iterator[slapd.Server]:
    entries = {f"uid={uid},{slapd.BASE}": slapd.person(uid, **PEOPLE[uid]) for uid in PEOPLE}
    with slapd.Server.running(entries) as server:
        yield server


@asynccontextmanager
async def asking(server: slapd.Server, query: str = QUERY, **more: Any) -> AsyncIterator[Asker]:
    """Yield what asks the plugin for pictures from the directory."""
    keys = {**server.settings(timeout=2), **more.pop("keys", {})}
    async with LdapSource(LdapSettings.model_validate(keys)) as source:
        config = {"plugins": {"avatars": {"timeout": 3.0}}}
        given_ = {"source": source, "query": query, "domains": ["example.com"], **more}
        policy = make_policy((Avatars, given_), config=config)
        async with policy.serving():
            yield Asker(policy)


@programs.needs_compiled("python-ldap")
class TestDirectory:
    """Pictures in LDAP."""

    async def test_the_first_attribute_with_a_value_is_the_picture(
        self, people: slapd.Server
    ) -> None:
        async with asking(people) as ask:
            outcome = await ask("sip:anna@EXAMPLE.com;transport=tls", 40, 30)
            assert color_of(outcome) == RED
            assert isinstance(outcome.decision, Avatar)
            assert outcome.decision.reason == "a picture from source"
            assert color_of(await ask("a@example.com")) == RED
            assert color_of(await ask("both@example.com")) == BLUE
            for alias in ("none@example.com", "eve@example.com", f"{'x' * 300}@example.com"):
                assert (await ask(alias)).decided_by != "avatars"
        async with asking(people, "(uid={user}) thumbnailPhoto", initials={}) as ask:
            assert color_of(await ask("both@example.com")) == RED
            assert (await ask("none@example.com")).decided_by == "avatars", "initials"

    @pytest.mark.parametrize(
        ("alias", "detail"),
        [("twins@example.com", "2 people have this alias"), ("text@example.com", NO_PICTURE)],
    )
    async def test_what_is_no_picture_of_one_person_is_a_failure(
        self, people: slapd.Server, alias: str, detail: str
    ) -> None:
        async with asking(people) as ask:
            outcome, text = await ask.step(alias)
            assert (outcome, detail in text) == ("failed", True), text

    async def test_a_cached_picture_is_used_while_the_server_is_frozen(
        self, people: slapd.Server
    ) -> None:
        async with asking(people, keys={"timeout": 1}) as ask:
            await ask("anna@example.com")
            with people.frozen():
                assert color_of(await ask("anna@example.com", 80, 80)) == RED
                assert (await ask.step("both@example.com"))[0] == "failed"

            async def recovered() -> bool:
                return (await ask("both@example.com")).decided_by == "avatars"

            await until(recovered)


async def test_binary_columns_of_a_database_are_pictures(tmp_path: Path) -> None:
    path = tmp_path / "people.sqlite"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE people (mail text, photo blob, text text)")
        lines = base64.encodebytes(SMALL).decode()
        rows = [("a@example.com", LARGE, None), ("b@example.com", None, lines), ("c", b"", "ø")]
        database.executemany("INSERT INTO people VALUES (?, ?, ?)", rows)
    query = "SELECT photo, text FROM people WHERE mail = :alias"
    async with SqlSource(SqlSettings.model_validate({"path": str(path)})) as source:
        policy = make_policy((Avatars, {"source": source, "query": query}))
        async with policy.serving():
            ask = Asker(policy)
            assert color_of(await ask("a@example.com")) == BLUE
            assert color_of(await ask("b@example.com")) == RED
            assert (await ask.step("c"))[1].startswith(NO_PICTURE)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (None, "query is missing: source and query go together"),
        ("SELECT photo FROM p WHERE mail = :mail", "query: has the parameter :mail; there is: "),
    ],
)
def test_a_query_with_an_error_is_refused(tmp_path: Path, query: str | None, text: str) -> None:
    source = SqlSource(SqlSettings.model_validate({"path": str(tmp_path / "x.sqlite")}))
    with pytest.raises(ConfigError, match=text):
        make_policy((Avatars, {"source": source, **({"query": query} if query else {})}))


def test_a_query_by_user_alone_is_warned_of(tmp_path: Path) -> None:
    source = SqlSource(SqlSettings.model_validate({"path": str(tmp_path / "x.sqlite")}))
    for column, count in [("user", 1), ("alias", 0), ("host", 0)]:
        query = f"SELECT photo FROM people WHERE mail = :{column}"  # noqa: S608 - a constant
        assert len(make_policy((Avatars, {"source": source, "query": query})).warnings) == count
