"""Rooms of a source, with a real database that changes and goes."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from multidict import MultiDict

from pexpolicy import Conference, ServiceConfigurationRequest, SettingsError
from pexpolicy.testing import decide, make_policy
from pexpolicy_rooms.plugin import Rooms
from pexpolicy_rooms.settings import Settings
from pexpolicy_sources.file import FileSettings, FileSource
from pexpolicy_sources.sql import SqlSettings, SqlSource
from tests.support.waiting import until

QUERY = "SELECT * FROM rooms"
CLINIC = ("Clinic@Example.com clinic", "Clinic", "0482", 1, None)


def fill(path: Path, *rows: tuple[Any, ...]) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DROP TABLE IF EXISTS rooms")
        database.execute("CREATE TABLE rooms (aliases, name, pin, floor, valid_until)")
        database.executemany("INSERT INTO rooms VALUES (?, ?, ?, ?, ?)", rows)


@asynccontextmanager
async def serving(path: Path, **settings: Any) -> AsyncIterator[Any]:
    source = SqlSource(SqlSettings.model_validate({"path": str(path)}))
    table = {"source": source, "query": QUERY, **settings}
    async with source:
        policy = make_policy({"rooms": Rooms}, config={"plugins": {"rooms": {"settings": table}}})
        async with policy.serving():

            async def ask(alias: str) -> Any:
                params = MultiDict({"local_alias": alias, "call_direction": "dial_in"})
                decided = (await decide(policy, ServiceConfigurationRequest(params))).decision
                return decided if isinstance(decided, Conference) else None

            yield ask


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "rooms.sqlite"
    fill(path, CLINIC)
    return path


async def test_a_room_of_the_source_is_found_by_each_alias(database: Path) -> None:
    async with serving(database, rooms={"own": {"name": "Own", "service_tag": "t"}}) as ask:
        for alias in ("sip:clinic@example.com", "CLINIC"):
            room = await ask(alias)
            assert (room.name, room.pin) == ("Clinic", "0482")
        assert (await ask("own")).name == "Own"
        assert await ask("nobody") is None


async def test_changes_arrive_and_the_last_rooms_stay_without_the_source(database: Path) -> None:
    async with serving(database, every=0.05) as ask:
        fill(database, ("new", "New", None, 2, "2020-01-01T00:00:00Z"), ("b", "B", None, 1, None))
        await until(lambda: ask("b"))
        assert await ask("clinic") is None
        assert await ask("new") is None, "its time is over"
        os.unlink(database)  # noqa: PTH108
        await asyncio.sleep(0.2)
        assert (await ask("b")).name == "B"


async def test_a_refresh_logs_which_rooms_have_changed(
    database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = SqlSource(SqlSettings.model_validate({"path": str(database)}))
    settings = Settings.model_validate({"source": source, "query": QUERY, "every": 0.05})
    fill(database, CLINIC, ("a", "A", None, 1, None), ("b", "B", None, 1, None))
    caplog.set_level("INFO")
    async with source, Rooms(settings).lifespan():
        fill(database, CLINIC, ("a", "A", "4711", 1, None), ("c", "C", None, 1, None))
        await until(lambda: caplog.messages)
        await asyncio.sleep(0.1)
    changes = "'added C; removed B; changed A'"
    assert caplog.messages == [f"rooms of the source have changed changes={changes}"]


async def test_the_cache_starts_a_server_without_the_source(database: Path) -> None:
    cache = str(database.parent / "rooms.json")
    source = SqlSource(SqlSettings.model_validate({"path": str(database)}))
    settings = Settings.model_validate({"source": source, "query": QUERY, "cache": cache})
    async with source, Rooms(settings).lifespan():
        pass
    os.unlink(database)  # noqa: PTH108
    async with serving(database, cache=cache) as ask:
        assert (await ask("clinic")).pin == "0482"


async def test_a_row_with_a_problem_is_left_out(database: Path) -> None:
    fill(
        database,
        CLINIC,
        ("short", "Short", "12", 1, None),
        ("number", "Number", 4711, 1, None),
        ("", "None", None, 1, None),
        ("@", "None", None, 1, None),
        ("endless", "Endless", None, 1, "tomorrow"),
    )
    async with serving(database) as ask:
        assert (await ask("clinic")).name == "Clinic"
        for alias in ("short", "number", "endless"):
            assert await ask(alias) is None, alias


@pytest.mark.parametrize(
    "row",
    [
        {"aliases": 4711},
        {"aliases": True},
        {"aliases": {"b": "c"}},
        {"aliases": "b", "service_type": ["lecture"]},
        {"aliases": "b", "service_type": {}},
    ],
)
async def test_a_row_with_a_value_of_another_type_is_left_out(
    row: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "rooms.json"
    path.write_bytes(orjson.dumps([{"aliases": "a", "name": "A"}, {"name": "B", **row}]))
    source = FileSource(FileSettings.model_validate({"path": str(path)}))
    rooms = Rooms(Settings.model_validate({"source": source, "query": ""}))
    async with source, rooms.lifespan():
        assert [entry.alias for entry in rooms.room_entries()] == ["a"]


async def test_pins_are_calculated_for_rooms_of_the_source(database: Path) -> None:
    fill(database, ("a@example.com", "A", None, 1, None))
    secret = database.parent / "secret"
    with secret.open("w") as file:
        file.write("0123456789abcdef")
    pin = {"derive": "hmac", "secret_file": str(secret)}
    configured = {"a": {"name": "A", "service_tag": ""}}
    async with serving(database, pin=pin, rooms=configured) as ask:
        assert (await ask("a@example.com")).pin == (await ask("a")).pin


async def test_a_row_cannot_name_a_file_for_its_pin(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789")
    rooms = tmp_path / "rooms.toml"
    pin = f'{{ derive = "sha256", secret_file = "{secret}" }}'
    rooms.write_text(f'[[rooms]]\nalias = "a"\nname = "A"\npin = {pin}\n')
    keys = {"path": str(rooms), "rows": "rooms"}
    source = FileSource(FileSettings.model_validate(keys))
    settings = Settings.model_validate({"source": source, "query": ""})
    with pytest.raises(Exception, match="no row of the rooms is right; row 1: a PIN is text"):
        async with source, Rooms(settings).lifespan():
            pass


def test_a_query_is_checked_when_the_policy_is_built(database: Path) -> None:
    source = SqlSource(SqlSettings.model_validate({"path": str(database)}))
    settings = Settings.model_validate({"source": source, "query": "SELECT :alias"})
    with pytest.raises(SettingsError) as raised:
        Rooms(settings)
    assert raised.value.problems[0].key == ("query",)
    with pytest.raises(ValueError, match="source is missing"):
        Settings.model_validate({"query": QUERY})
