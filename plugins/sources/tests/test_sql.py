"""Driver ``sql``, with real databases."""

import asyncio
import gc
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pexpolicy import Alias
from pexpolicy_sources import Found, QueryError, SourceUnavailableError
from pexpolicy_sources.sql import SqlSettings, SqlSource
from tests.support import postgresql
from tests.support.outages import stale_while_down
from tests.support.waiting import HANG_S

BY_ALIAS = "SELECT name, pin FROM rooms WHERE lower(alias) = :alias"
NEVER_ENDS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
Open = Callable[..., SqlSource]


@pytest.fixture(params=["sqlite", "postgresql"])
def keys(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The settings of one of the databases."""
    if request.param == "sqlite":
        return {"path": str(request.getfixturevalue("sqlite"))}
    server: postgresql.Server = request.getfixturevalue("postgres")
    return postgresql_keys(server)


def postgresql_keys(server: postgresql.Server) -> dict[str, Any]:
    return {"url": server.url, "password_file": str(server.folder / "password")}


def source(keys: dict[str, Any], **more: Any) -> SqlSource:
    return SqlSource(SqlSettings.model_validate({"timeout": 5.0, **keys, **more}))


@pytest.fixture
async def opened(keys: dict[str, Any]) -> AsyncIterator[SqlSource]:
    async with source(keys) as made:
        yield made


async def test_a_row_is_found_by_an_alias_and_a_miss_has_no_rows(opened: SqlSource) -> None:
    lookup = opened.lookup(BY_ALIAS, ["alias"])
    alias = Alias("sip:Clinic@Example.com:5060")
    assert list((await lookup.ask(alias=alias)).rows) == [{"name": "Clinic", "pin": "0482"}]
    assert await lookup.ask(alias="nobody") == Found([], 0.0)
    await lookup.ask(alias="nobody")
    assert (lookup.fetches, lookup.hits) == (2, 1)


async def test_a_snapshot_has_all_rows_and_is_kept_on_disk(
    keys: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "snapshot.json"
    query = "SELECT alias, name FROM rooms ORDER BY alias"
    async with source(keys) as made, made.snapshot(query, list, every=60, file=file) as rooms:
        expected = [r["alias"] for r in rooms.value]
        assert expected == ["board", "clinic@example.com"]
    # The source is not open: this is a start without it.
    async with source(keys).snapshot(query, list, every=60, file=file) as rooms:
        assert [r["alias"] for r in rooms.value] == expected


async def test_a_large_snapshot_leaves_time_for_calls(opened: SqlSource) -> None:
    query = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)"
        " SELECT i, 'room' AS name FROM n"
    )
    await opened.lookup("SELECT 1", []).ask()  # The first query imports the driver.
    turns: list[float] = []

    async def tick() -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            turns.append(time.thread_time() - last)
            last += turns[-1]

    # A collection would visit all objects of the process that runs the tests.
    gc.disable()
    try:
        task = asyncio.create_task(tick())
        async with opened.snapshot(query, list, every=60) as rooms:
            task.cancel()
            assert len(rooms.value) == 30_000
    finally:
        gc.enable()
    # Rows come in chunks of one size, and so do the turns in which they are converted, or a thread
    # converts them.
    turns.sort()
    assert turns[-1] < max(10 * turns[-20], 0.005)


@settings(max_examples=4, suppress_health_check=[*HealthCheck])
@given(st.lists(st.text(st.characters(), max_size=40), min_size=10, max_size=20))
def test_no_text_is_more_than_a_value(keys: dict[str, Any], texts: list[str]) -> None:
    async def ask() -> None:
        async with source(keys, timeout=5) as made:
            echo = made.lookup("SELECT CAST(:value AS text) AS value", ["value"])
            rooms = made.lookup("SELECT name FROM rooms WHERE alias = :value", ["value"])
            for text in (*texts, "' OR '1'='1", "\\", "%", ":a", "\0", "\ud800"):
                is_text = "\0" not in text and text == text.encode(errors="replace").decode()
                echoed = await echo.ask(value=text)
                assert list(echoed.rows) == ([{"value": text}] if is_text else []), text
                assert not (await rooms.ask(value=text)).rows, text

    asyncio.run(ask())


async def test_nothing_can_be_written(opened: SqlSource) -> None:
    change = "WITH one AS (SELECT 1) DELETE FROM rooms WHERE alias = :alias RETURNING name"
    lookup = opened.lookup(change, ["alias"])
    with pytest.raises(QueryError, match=r"read-?only"):
        await lookup.ask(alias="board")
    found = await opened.lookup("SELECT count(*) AS n FROM rooms", []).ask()
    assert list(found.rows) == [{"n": 2}]


async def test_values_are_those_of_json(opened: SqlSource) -> None:
    postgres_query = "SELECT date '2026-01-02' AS day, 1.50 AS n, '\\x00ff'::bytea AS b, true AS t"
    query = postgres_query.replace("::", "\\:\\:") if opened.settings.url else "SELECT x'00ff' AS b"
    (row,) = (await opened.lookup(query, []).ask()).rows
    json_values = {"day": "2026-01-02", "n": "1.50", "b": "AP8=", "t": True}
    assert row == {name: json_values[name] for name in row}


async def test_a_statement_ends_at_its_timeout_in_the_database_too(keys: dict[str, Any]) -> None:
    async with source(keys, timeout=0.3, pool_size=1, refresh_after=0) as made:
        with pytest.raises(SourceUnavailableError):
            await made.lookup(NEVER_ENDS, []).ask()
        # The only connection is free again.
        lookup = made.lookup(BY_ALIAS, ["alias"])
        async with asyncio.timeout(HANG_S):
            while not lookup.hits + len(lookup):
                with suppress(SourceUnavailableError):
                    assert (await lookup.ask(alias="board")).rows


def test_a_query_that_is_cancelled_again_and_again_lets_the_loop_end(sqlite: Path) -> None:
    async def cancel(delay: float) -> None:
        async with source({"path": str(sqlite)}) as made:
            query = made.prepare("SELECT * FROM rooms", ())
            await made.fetch_all(query, None)
            asked = asyncio.create_task(made.fetch_all(query, None))
            for _ in range(2):
                await asyncio.sleep(delay)
                asked.cancel()

    def cancel_often() -> None:
        for number in range(60):
            asyncio.run(cancel(number * 5e-5))

    thread = threading.Thread(target=cancel_often, daemon=True)
    thread.start()
    thread.join(HANG_S)
    assert not thread.is_alive()


async def test_an_error_of_a_query_shows_neither_statement_nor_values(opened: SqlSource) -> None:
    lookup = opened.lookup("SELECT pin FROM roms WHERE alias = :alias", ["alias"])
    with pytest.raises(QueryError) as raised:
        await lookup.ask(alias="secret@example.com")
    assert "roms" in str(raised.value)
    assert "secret@" not in str(raised.value)
    assert "SELECT" not in str(raised.value)


@pytest.mark.parametrize("query", ["CAST(:alias AS integer)", "CAST('' || :alias AS integer)"])
async def test_an_error_of_a_value_does_not_show_it(
    postgres: postgresql.Server, query: str
) -> None:
    async with source(postgresql_keys(postgres)) as made:
        for alias in ("secret@example.com", "secret" * 40):
            with pytest.raises(QueryError, match=r"invalid input .*\*\*\*") as raised:
                await made.lookup(f"SELECT {query} AS n", ["alias"]).ask(alias=alias)
            assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("int4range(1, 5)", r"the column v .*\(Range\): write CAST\(v AS text\)"),
        ("B'101'", r"the column v .*\(BitString\)"),
        ("date '0044-03-15 BC'", "a value cannot be read"),
        ("timestamp '294276-01-01'", "a value cannot be read"),
    ],
)
async def test_a_value_that_json_cannot_hold_is_an_error_of_the_query(
    postgres: postgresql.Server, value: str, text: str
) -> None:
    async with source(postgresql_keys(postgres)) as made:
        with pytest.raises(QueryError, match=text):
            await made.lookup(f"SELECT {value} AS v", []).ask()


async def test_a_changed_table_costs_neither_a_call_nor_a_refresh(
    postgres: postgresql.Server,
) -> None:
    postgres.execute("CREATE TABLE changing (n int); INSERT INTO changing VALUES (1)")
    async with source(postgresql_keys(postgres), refresh_after=0) as made:
        lookup = made.lookup("SELECT * FROM changing WHERE :one = 'x'", ["one"])
        async with made.snapshot("SELECT * FROM changing", list, every=60) as rows:
            await lookup.ask(one="x")
            postgres.execute("ALTER TABLE changing ADD COLUMN more int")
            await rows.refresh()
            assert rows.value == [{"n": 1, "more": None}]
            found = await lookup.ask(one="x")
            assert (list(found.rows), found.age) == ([{"n": 1, "more": None}], 0.0)
    postgres.execute("DROP TABLE changing")


async def test_a_database_that_was_replaced_is_read(sqlite: Path, tmp_path: Path) -> None:
    async with source({"path": str(sqlite)}, refresh_after=0, max_age=0) as made:
        lookup = made.lookup("SELECT name FROM rooms WHERE alias = :alias", ["alias"])
        async with made.snapshot("SELECT alias FROM rooms", list, every=60) as rooms:
            await lookup.ask(alias="board")
            new = tmp_path / "new.sqlite"
            with closing(sqlite3.connect(new)) as database, database:
                database.executescript(
                    "CREATE TABLE rooms (alias, name); INSERT INTO rooms VALUES ('board', 'New')"
                )
            new.replace(sqlite)
            assert list((await lookup.ask(alias="board")).rows) == [{"name": "New"}]
            await rooms.refresh()
            assert rooms.value == [{"alias": "board"}]
            os.unlink(sqlite)  # noqa: PTH108
            with pytest.raises(SourceUnavailableError, match="can be read"):
                await lookup.ask(alias="board")
            await asyncio.sleep(0.05)  # as above


def test_a_query_is_checked_when_it_is_prepared(sqlite: Path) -> None:
    made = source({"path": str(sqlite)})
    with pytest.raises(ValueError, match=r"has the parameter :als; there is: :alias"):
        made.lookup("SELECT 1 WHERE 1 = :als", ["alias"])
    with pytest.raises(ValueError, match="does not begin like a query"):
        made.snapshot("  ", list, every=60)
    for other in ("delete from rooms", "rooms", "/* all of them", "-- all"):
        with pytest.raises(ValueError, match="does not begin like a query; write one such as"):
            made.snapshot(other, list, every=60)
    for query in (
        "-- all\n (/* of */ Select 1)",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "VALUES (1)",
        "exec all_rooms",
    ):
        made.snapshot(query, list, every=60)
    for other in ("%s", "%(alias)s", "?", "{alias}"):
        with pytest.raises(ValueError, match="write a parameter as :alias"):
            made.lookup(f"SELECT 1 WHERE 1 = {other}", ["alias"])
    made.lookup("SELECT '{alias}' WHERE 1 = :alias AND '= ?' <> '%s'", ["alias"])


async def test_a_missing_database_is_not_created(tmp_path: Path) -> None:
    path = tmp_path / "none.sqlite"
    async with source({"path": str(path)}) as made:
        with pytest.raises(SourceUnavailableError, match="can be read"):
            await made.lookup("SELECT 1", []).ask()
    assert not path.exists()


async def test_a_pipe_is_no_database(tmp_path: Path) -> None:
    os.mkfifo(path := tmp_path / "pipe")
    async with source({"path": str(path)}) as made:
        with pytest.raises(SourceUnavailableError, match="can be read"):
            made.columns("SELECT 1")
        with pytest.raises(SourceUnavailableError, match="can be read"):
            await made.lookup("SELECT 1", []).ask()


async def test_a_query_of_sqlite_ends_with_its_source(sqlite: Path) -> None:
    async with source({"path": str(sqlite)}, snapshot_timeout=2 * HANG_S) as made:
        asked = asyncio.create_task(made.fetch_all(made.prepare(NEVER_ENDS, ()), None))
        await asyncio.sleep(0)
    async with asyncio.timeout(HANG_S):
        with pytest.raises(SourceUnavailableError, match="interrupted"):
            await asked


async def test_a_database_with_a_strange_name_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "ro?ms #1%20.sqlite"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE t (x)")
    async with source({"path": str(path)}) as made:
        assert not (await made.lookup("SELECT * FROM t", []).ask()).rows


async def test_answers_are_stale_in_an_outage_and_new_after_it(postgres: postgresql.Server) -> None:
    async with source(postgresql_keys(postgres), timeout=0.3, refresh_after=0, max_age=60) as made:
        await stale_while_down(postgres, made.lookup(BY_ALIAS, ["alias"]), "board")
    postgres.execute("DO $$ BEGIN PERFORM pg_sleep(0.2); END $$")


async def test_opening_and_closing_leaves_no_connection(postgres: postgresql.Server) -> None:
    for _ in range(10):
        async with source(postgresql_keys(postgres)) as made:
            lookup = made.lookup(BY_ALIAS, ["alias"])
            await asyncio.gather(*(lookup.ask(alias=f"room{n}") for n in range(8)))
    query = "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'pexpolicy'"
    async with source(postgresql_keys(postgres), refresh_after=0) as made:
        count = made.lookup(query, [])
        async with asyncio.timeout(HANG_S):
            while (await count.ask()).rows[0]["n"] > 1:  # noqa: ASYNC110 - the server ends them
                await asyncio.sleep(0.05)
