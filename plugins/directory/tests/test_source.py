"""Entries of a source, with a real database that changes and goes."""

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from pexpolicy import Directory
from pexpolicy.testing import ConfigError, decide, make_policy, make_request
from pexpolicy_directory import PhoneBook
from pexpolicy_directory.index import Settings
from pexpolicy_sources.sql import SqlSettings, SqlSource
from tests.support.waiting import until

ANNA = ("anna@example.com", "Anna Berg", None, "reception", "")
BO = ("Bo@Example.com", "Bo Dahl", "bo", None, "staff")


def fill(path: Path, *rows: tuple[Any, ...]) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DROP TABLE IF EXISTS people")
        database.execute("CREATE TABLE people (alias, name, username, keywords, groups)")
        database.executemany("INSERT INTO people VALUES (?, ?, ?, ?, ?)", rows)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "people.sqlite"
    fill(path, ANNA, BO)
    return path


@asynccontextmanager
async def searching(source: dict[str, Any], **settings: Any) -> AsyncIterator[Any]:
    """Yield what returns the names that a text finds."""
    table = {"source": "people", "query": "SELECT * FROM people", **settings}
    config = {"sources": {"people": source}, "plugins": {"directory": {"settings": table}}}
    policy = make_policy({"directory": PhoneBook}, config=config)
    async with policy.serving():

        async def search(q: str, asking: str = "x@elsewhere.org") -> list[str]:
            request = make_request("directory_information", q=q, registration_alias=asking)
            found = (await decide(policy, request)).decision
            entries = found.entries if isinstance(found, Directory) else []
            return [entry.description for entry in entries]

        yield search


def sqlite(path: Path) -> dict[str, Any]:
    return {"driver": "sql", "path": str(path)}


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT alias, username FROM people", "has no column name; it has alias, username"),
        ("SELECT 1 AS mail, 2 AS cn", "has no column alias and no name; it has mail, cn"),
    ],
)
def test_a_query_without_what_an_entry_needs_is_refused_when_it_is_checked(
    database: Path, query: str, says: str
) -> None:
    table = {"source": "people", "query": query}
    config = {
        "sources": {"people": sqlite(database)},
        "plugins": {"directory": {"settings": table}},
    }
    with pytest.raises(ConfigError, match=f"settings.query: {says}"):
        make_policy({"directory": PhoneBook}, config=config)


async def test_entries_of_the_source_are_found_with_those_of_the_configuration(
    database: Path,
) -> None:
    own = [{"alias": "berta@example.com", "name": "Berta"}]
    groups = {"staff": ["@example.com"]}
    async with searching(sqlite(database), entries=own, groups=groups) as search:
        assert await search("be") == ["Berta", "Anna Berg"]
        assert await search("reception") == ["Anna Berg"]
        assert await search("dahl") == []
        assert await search("dahl", "anna@example.com") == ["Bo Dahl"]


async def test_changes_arrive_and_the_last_entries_stay_without_the_source(database: Path) -> None:
    async with searching(sqlite(database), every=0.05) as search:
        fill(database, ("new@example.com", "New", None, None, None))
        await until(lambda: search("new"))
        assert await search("anna") == []
        os.unlink(database)  # noqa: PTH108
        await asyncio.sleep(0.2)
        assert await search("new") == ["New"]


async def test_the_cache_starts_a_server_without_the_source(database: Path) -> None:
    cache = str(database.parent / "people.json")
    source = SqlSource(SqlSettings.model_validate({"path": str(database)}))
    table = {"source": source, "query": "SELECT * FROM people", "cache": cache}
    async with source, PhoneBook(Settings.model_validate(table)).lifespan():
        pass
    os.unlink(database)  # noqa: PTH108
    async with searching(sqlite(database), cache=cache) as search:
        assert await search("anna") == ["Anna Berg"]


async def test_rows_with_an_error_are_left_out(database: Path) -> None:
    fill(database, ANNA, BO, ("@", "None", None, None, None), ("c@b.org", None, None, None, None))
    async with searching(sqlite(database)) as search:
        assert await search("") == ["Anna Berg"], "nobody lists the group of Bo"


async def test_several_values_of_an_attribute(tmp_path: Path) -> None:
    path = tmp_path / "people.json"
    path.write_text(
        '[{"alias": ["a@b.org", "a2@b.org"], "name": ["Anna", "A."], "keywords": ["one", "two"],'
        ' "groups": ["g"]}]'
    )
    source = {"driver": "file", "path": str(path)}
    async with searching(source, query="", groups={"g": ["x@elsewhere.org"]}) as search:
        assert await search("two") == ["Anna"]


async def test_a_person_with_very_many_keywords_is_found(tmp_path: Path) -> None:
    path = tmp_path / "people.json"
    keywords = [f"department{number}" for number in range(50)]
    person = {"alias": "a@b.org", "name": "Anna", "keywords": keywords}
    path.write_text(json.dumps([person]))
    async with searching({"driver": "file", "path": str(path)}, query="") as search:
        assert await search("anna") == await search("department7") == ["Anna"]


def test_a_source_has_a_query_that_is_checked(database: Path) -> None:
    def problem(**settings: Any) -> str:
        config = {
            "sources": {"people": sqlite(database)},
            "plugins": {"directory": {"settings": settings}},
        }
        with pytest.raises(ConfigError) as raised:
            make_policy({"directory": PhoneBook}, config=config)
        return str(raised.value)

    assert "query is missing" in problem(source="people")
    assert "settings.query: has the parameter :q" in problem(source="people", query="SELECT :q")
    assert "cache belongs to a source" in problem(cache="c.json")
