"""Devices of a source, with a real database that changes and goes."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from multidict import MultiDict

from pexpolicy import RegistrationAliasRequest, SettingsError
from pexpolicy.testing import decide, make_policy
from pexpolicy_registrations.plugin import Registrations, Settings
from pexpolicy_sources.sql import SqlSettings, SqlSource
from tests.support.waiting import until

QUERY = "SELECT * FROM devices"
FIRST = [("Desk@Example.com", "desk", "horse", "sip|h323", "a note")]


def fill(path: Path, *rows: tuple[Any, ...]) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DROP TABLE IF EXISTS devices")
        database.execute("CREATE TABLE devices (alias, username, password, protocols, note)")
        database.executemany("INSERT INTO devices VALUES (?, ?, ?, ?, ?)", rows)


@asynccontextmanager
async def serving(path: Path, **settings: Any) -> AsyncIterator[Any]:
    source = SqlSource(SqlSettings.model_validate({"path": str(path)}))
    table = {"source": source, "query": QUERY, **settings}
    plugins = {"registrations": {"on_error": "reject", "settings": table}}
    async with source:
        policy = make_policy({"registrations": Registrations}, config={"plugins": plugins})
        async with policy.serving():

            async def ask(alias: str, protocol: str = "sip") -> Any:
                params = MultiDict({"protocol": protocol, "auth_type": "credentials"})
                return await decide(policy, RegistrationAliasRequest(params, alias))

            yield ask


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "devices.sqlite"
    fill(path, *FIRST)
    return path


async def test_a_device_of_the_source_is_answered_whatever_its_case(database: Path) -> None:
    async with serving(database) as ask:
        assert (await ask("sip:desk@example.com")).decision.username == "desk"
        assert (await ask("desk@example.com", "webrtc")).decision.action == "reject"
        assert (await ask("nobody")).decision.reason == "no device has this alias"


async def test_changes_arrive_and_the_last_devices_stay_without_the_source(database: Path) -> None:
    async with serving(database, every=0.05) as ask:
        fill(database, ("new@example.com", "n", "pw", None, None))

        async def is_there() -> bool:
            return bool((await ask("new@example.com")).decision.action == "continue")

        await until(is_there)
        os.unlink(database)  # noqa: PTH108
        await asyncio.sleep(0.2)
        assert (await ask("new@example.com")).decision.username == "n"


async def test_the_cache_starts_a_server_without_the_source(database: Path) -> None:
    cache = str(database.parent / "devices.json")
    source = SqlSource(SqlSettings.model_validate({"path": str(database)}))
    settings = Settings.model_validate({"source": source, "query": QUERY, "cache": cache})
    async with source, Registrations(settings).lifespan():
        pass
    os.unlink(database)  # noqa: PTH108
    async with serving(database, cache=cache) as ask:
        assert (await ask("desk@example.com")).decision.username == "desk"


async def test_a_row_with_an_error_is_left_out(database: Path) -> None:
    fill(
        database,
        *FIRST,
        ("half", "user", None, None, None),
        ("desk@example.com", None, None, None, None),
        ("@", None, None, None, None),
        ("odd", None, None, "carrier pigeon", None),
    )
    async with serving(database) as ask:
        assert (await ask("desk@example.com")).decision.username == "desk"
        for alias in ("half", "odd"):
            assert (await ask(alias)).decision.reason == "no device has this alias"


def test_a_query_and_its_keys_are_checked(database: Path) -> None:
    source = SqlSource(SqlSettings.model_validate({"path": str(database)}))
    settings = Settings.model_validate({"source": source, "query": "SELECT :alias"})
    with pytest.raises(SettingsError) as raised:
        Registrations(settings)
    assert raised.value.problems[0].key == ("query",)
    with pytest.raises(ValueError, match="query is missing"):
        Settings.model_validate({"source": source})
    with pytest.raises(ValueError, match="cache belongs to a source"):
        Settings.model_validate({"cache": "x"})
    with pytest.raises(ValueError, match=r"write the NAME of a table"):
        Settings.model_validate({"source": object(), "query": QUERY})
