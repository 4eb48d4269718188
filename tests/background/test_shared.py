"""Leases, counters and stores: one suite for every engine."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import msgspec
import pydantic
import pytest

from pexpolicy import Counters, Leases, Refreshed, SharedUnavailableError, Store, schedule
from pexpolicy.background.refreshed import looking_after
from pexpolicy.background.shared import SharedItem, SharedTables
from pexpolicy.background.shared_postgresql import PostgresqlState
from pexpolicy.background.shared_state import REFUSED, SetupError, SharedState, SqliteState
from pexpolicy.background.sources import SharedResources
from pexpolicy.config.loader import load
from pexpolicy.models.context import hook_context
from pexpolicy.models.request import set_call
from pexpolicy.testing import make_request
from tests.support import postgresql
from tests.support.waiting import HANG_S, until

Made = Callable[[SharedItem], Any]
FEW = 3


class Pin(msgspec.Struct):
    digits: str
    tries: int = 0


class Window(pydantic.BaseModel):
    opens: int


@pytest.fixture
def make(engine: postgresql.Server | None, tmp_path: Path) -> Callable[..., SharedState]:
    """Make a state of one engine, which is empty at first."""

    def made(*, is_dry: bool = False, timeout: float = 5.0) -> SharedState:
        if engine is not None:
            return PostgresqlState(engine.url, postgresql.PASSWORD, timeout, is_dry=is_dry)
        return SqliteState(tmp_path / "shared.sqlite", timeout, is_dry=is_dry)

    return made


@pytest.fixture
async def states(make: Callable[..., SharedState]) -> AsyncIterator[list[SharedState]]:
    """Two states over one engine, as two processes have them."""
    made = [make(), make()]
    yield made
    for state in made:
        await state.close()


def pair(states: list[SharedState], kind: type[Any], *arguments: Any) -> list[Any]:
    """Return one item of a plugin in each process."""
    items = [kind("things", *arguments) for _ in states]
    for item, state in zip(items, states, strict=True):
        item.bind("toy", state)
    return items


async def test_fifty_at_once_get_no_more_than_the_places(states: list[SharedState]) -> None:
    one, two = pair(states, Leases, 60.0)
    got = await asyncio.gather(
        *((one, two)[n % 2].acquire("acme", f"call-{n}", FEW) for n in range(50))
    )
    assert sum(got) == FEW
    assert await two.count("acme") == FEW
    assert await one.counts() == {"acme": FEW}


async def test_a_holder_keeps_its_place_and_gives_it_to_another(states: list[SharedState]) -> None:
    one, two = pair(states, Leases, 60.0)
    assert await one.acquire("acme", "a", 1)
    assert await two.acquire("acme", "a", 1)
    assert not await two.acquire("acme", "b", 1)
    assert await two.acquire("other", "b", 1)
    await two.change([("acme", "c")], [("acme", "a")])
    await two.change([("acme", "d")], [("acme", "unknown")])
    assert await one.holders("acme") == ["c", "d"]
    await one.release("acme", "c")
    assert not await two.acquire("acme", "e", 1)
    await one.release("acme", "d")
    assert await two.acquire("acme", "e", 1)
    assert await two.acquire("acme", "f")


async def test_what_is_not_renewed_expires(states: list[SharedState]) -> None:
    one, two = pair(states, Leases, 0.2)
    assert await one.acquire("acme", "a", 1)
    await until(lambda: two.acquire("acme", "b", 1, ttl=60.0))
    assert await one.holders("acme") == ["b"]
    store, _ = pair(states, Store, Pin, 0.2)
    await store.put("p", Pin("1"))
    await store.put("q", Pin("2"), ttl=60.0)
    await until(lambda: _is_none(store.get("p")))
    assert [key for key, _ in await store.items()] == ["q"]
    await states[0].sweep(0.0)
    assert await states[0].run(("SELECT count(*) FROM pexpolicy_shared", ())) == [[(2,)]]


async def _is_none(awaited: Any) -> bool:
    return (await awaited) is None


async def test_additions_of_a_window_are_counted(states: list[SharedState]) -> None:
    one, two = pair(states, Counters, 60.0)
    await asyncio.gather(*((one, two)[n % 2].add("anna") for n in range(20)))
    assert await one.add("anna", 5) == 25
    assert (await two.count("anna"), await two.count("ben")) == (25, 0)
    short, _ = pair(states, Counters, 0.2)
    await short.add("carl")
    await until(lambda: _is_zero(short.count("carl")))


async def _is_zero(awaited: Any) -> bool:
    return bool(await awaited == 0)


async def test_an_entry_is_taken_once(states: list[SharedState]) -> None:
    one, two = pair(states, Store, Pin)
    await one.put("4711", Pin("4711"))
    taken = await asyncio.gather(
        *((one, two)[n % 2].take("4711", f"call-{n % 10}") for n in range(20))
    )
    assert [pin for pin in taken if pin] == [Pin("4711")] * 2
    assert await two.get("4711") == Pin("4711")
    await one.put("4711", Pin("4711"))
    assert await two.take("4711", "another")
    assert await two.take("absent", "another") is None


async def test_no_update_is_lost(states: list[SharedState]) -> None:
    one, two = pair(states, Store, Pin)

    def count(before: Pin | None) -> Pin:
        return Pin("1", (before.tries if before else 0) + 1)

    await asyncio.gather(*((one, two)[n % 2].update("p", count) for n in range(60)))
    assert await one.get("p") == Pin("1", 60)
    assert await two.update("p", lambda _: None) is None
    assert await one.get("p") is None
    assert await two.update("p", lambda _: None) is None


async def test_entries_are_listed_in_order_and_changed_together(states: list[SharedState]) -> None:
    one, two = pair(states, Store, Window)
    await one.put_all({f"a/{n}": Window(opens=n) for n in range(5)} | {"b/é": Window(opens=9)})
    await two.put_all({"a/1": None, "a/2": Window(opens=7), "b/é": Window(opens=8)})
    assert await one.items("a/") == [
        ("a/0", Window(opens=0)),
        *((f"a/{n}", Window(opens=opens)) for n, opens in ((2, 7), (3, 3), (4, 4))),
    ]
    assert [key for key, _ in await one.items(after="a/2", limit=2)] == ["a/3", "a/4"]
    await two.delete("a/3")
    assert [key for key, _ in await one.items(after="a/2")] == ["a/4", "b/é"]


@pytest.mark.parametrize(
    "key", ["", "a\0b", "\ud800", "x" * 100_000, "'; DROP TABLE", "%", "🙂" * 300]
)
async def test_any_text_is_a_key(states: list[SharedState], key: str) -> None:
    leases, _ = pair(states, Leases, 60.0)
    store, _ = pair(states, Store, Pin)
    assert await leases.acquire(key, key, 1)
    assert not await leases.acquire(key, key + "y", 1)
    await store.put(key, Pin(f"{key[:50]}\0".replace("\ud800", "")))
    assert await store.take(key, key)


async def test_items_of_plugins_and_names_are_apart(states: list[SharedState]) -> None:
    one, two = Leases("a", 60.0), Leases("a", 60.0)
    one.bind("toy", states[0])
    two.bind("other", states[1])
    assert await one.acquire("k", "x", 1)
    assert await two.acquire("k", "y", 1)
    assert await two.holders("k") == ["y"]


async def test_a_dry_run_answers_as_if_it_wrote(states: list[SharedState]) -> None:
    leases, _ = pair(states, Leases, 60.0)
    counters, _ = pair(states, Counters, 60.0)
    store, _ = pair(states, Store, Pin)
    assert await leases.acquire("k", "a", 1)
    await store.put("p", Pin("1"))
    request = make_request("service_configuration")
    set_call(request, "", dry_run=True)
    with hook_context("toy", "service_configuration", request):
        assert [await leases.acquire("k", holder, 1) for holder in "ab"] == [True, False]
        assert await leases.acquire("l", "a", 1)
        await leases.release("k", "a")
        await leases.change([("k", "b")], [("k", "a")])
        assert await counters.add("c") == 1
        assert await store.take("p", "x") == Pin("1")
        assert await store.update("p", lambda _: Pin("2")) == Pin("2")
        await store.delete("p")
        await store.put("q", Pin("3"))
    assert await leases.holders("k") == ["a"]
    assert await leases.counts() == {"k": 1}
    assert await counters.count("c") == 0
    assert await store.take("p", "y") == Pin("1")
    assert await store.get("q") is None


async def test_tables_of_a_plugin(states: list[SharedState]) -> None:
    create = ["CREATE TABLE IF NOT EXISTS pexpolicy_toy (name $text PRIMARY KEY, at bigint)"]
    one, two = pair(states, SharedTables, create)
    insert = "INSERT INTO pexpolicy_toy VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING name"
    assert await one.write((insert, ("a", 1)), (insert, ("a", 2))) == [[("a",)], []]
    many = "INSERT INTO pexpolicy_toy VALUES ($1, $2) ON CONFLICT DO NOTHING"
    assert await two.write((many, [("b", 2), ("a", 3)])) == [[]]
    rows = await one.read("SELECT name, at FROM pexpolicy_toy WHERE at < $1 ORDER BY name", 9)
    assert rows == [("a", 1), ("b", 2)]
    with pytest.raises(Exception, match=r"(?i)null|not.*null"):
        await one.write(
            ("DELETE FROM pexpolicy_toy", ()),
            ("INSERT INTO pexpolicy_shared (name, key) VALUES ($1, $2)", ("a", "b")),
        )
    assert len(await two.read("SELECT name FROM pexpolicy_toy")) == 2
    got = await asyncio.gather(*(_next(item) for item in (one, two) * 5))
    assert sorted(got) == [*range(10)]


async def _next(tables: SharedTables) -> int:
    """Number the rows by their count, which only a lock makes unique."""
    insert = (
        "INSERT INTO pexpolicy_toy SELECT 'n' || CAST(count(*) AS text), count(*)"
        " FROM pexpolicy_toy WHERE name LIKE 'n%' RETURNING at"
    )
    (rows,) = await tables.write((insert, ()), locks=("numbers",))
    return int(rows[0][0])


async def test_a_command_reads_what_a_server_wrote(make: Callable[..., SharedState]) -> None:
    create = ["CREATE TABLE IF NOT EXISTS pexpolicy_toy (name $text PRIMARY KEY, at bigint)"]
    store, leases, tables = Store("s", Pin), Leases("l", 60.0), SharedTables("t", create)
    serving, looking = make(), make(is_dry=True)
    bind((store, leases), serving)
    await store.put("p", Pin("1"))
    assert await leases.acquire("k", "a", 1)
    bind((store, leases, tables), looking)
    await looking.check()
    assert await tables.read("SELECT * FROM pexpolicy_toy") == []
    bind((tables,), serving)
    await tables.write(("INSERT INTO pexpolicy_toy VALUES ('a', 1)", ()))
    bind((tables,), looking)
    assert await store.get("p") == Pin("1")
    assert not await leases.acquire("k", "b", 1)
    assert await tables.write(("DELETE FROM pexpolicy_toy", ())) == [[]]
    assert await tables.read("SELECT * FROM pexpolicy_toy") == [("a", 1)]
    await looking.close()
    await serving.close()


async def test_what_only_reads_waits_for_no_transaction(tmp_path: Path) -> None:
    path = tmp_path / "shared.sqlite"
    state, store = SqliteState(path, HANG_S), Store("s", Pin)
    bind((store,), state)
    await store.put("p", Pin("1"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(store.put("p", Pin("2")))
        assert await store.get("p") == Pin("1")
        assert not writing.done()
        other.execute("COMMIT")
        await writing
    assert await store.get("p") == Pin("2")
    await state.close()


async def test_without_a_file_a_command_finds_nothing(tmp_path: Path) -> None:
    state = SqliteState(tmp_path / "shared.sqlite", is_dry=True)
    store = Store("s", Pin)
    bind((store,), state)
    await store.put("p", Pin("1"))
    assert await store.items() == []
    await state.close()
    assert not (tmp_path / "shared.sqlite").exists()


def bind(items: Iterable[SharedItem], state: SharedState) -> None:
    for item in items:
        item.bind("toy", state)


@pytest.mark.parametrize(("version", "is_refused"), [(-1, True), (0, False), (1, False), (2, True)])
async def test_a_newer_schema_is_refused(
    make: Callable[..., SharedState], version: int, *, is_refused: bool
) -> None:
    first = make()
    await first.run(("UPDATE pexpolicy_schema SET version = $1", (version,)))
    await first.close()
    later = make()
    if is_refused:
        with pytest.raises(SetupError, match=rf"schema {version}"):
            await later.check()
    else:
        await later.check()
        assert await later.run(("SELECT version FROM pexpolicy_schema", ())) == [[(version,)]]
    await later.close()


async def test_a_job_of_the_fleet_runs_in_one_process(states: list[SharedState]) -> None:
    started: list[int] = []

    async def run(number: int) -> None:
        started.append(number)

    jobs = [schedule(partial(run, n), every=60, once_per="fleet", name="tidy") for n in range(2)]
    for job, state in zip(jobs, states, strict=True):
        job.bind("toy", None)
        turns = Leases("jobs", 120.0)
        turns.bind("", state)
        job.is_turn = partial(turns.acquire, "toy/tidy", state.process, 1)
    async with jobs[0], jobs[1]:
        await until(lambda: _true(started))
    assert len(started) == 1


async def _true(value: object) -> bool:
    return bool(value)


async def test_data_is_refreshed_everywhere(states: list[SharedState]) -> None:
    fetched = [0, 0]

    async def fetch(number: int) -> int:
        fetched[number] += 1
        return fetched[number]

    made = [Refreshed(partial(fetch, n), every=3600.0, name="people") for n in range(2)]
    one, two = (looking_after(s, {"toy/people": d}) for s, d in zip(states, made, strict=True))
    async with made[0], made[1], one, two:
        assert fetched == [1, 1]
        await asyncio.gather(*(made[0].refresh(everywhere=True) for _ in range(60)))
        assert fetched[0] <= 3
        await until(lambda: _true(fetched[1] == 2))
    assert fetched[0] <= 3


async def test_a_database_that_hangs_or_dies_delays_no_call(postgres: postgresql.Server) -> None:
    postgres.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    state = PostgresqlState(postgres.url, postgresql.PASSWORD)
    leases = Leases("things", 60.0)
    leases.bind("toy", state)
    await until(lambda: _answers(leases, "first"))

    async def call(holder: str) -> None:
        with pytest.raises(SharedUnavailableError):
            await leases.acquire("k", holder)

    with postgres.frozen():
        for number in range(10):
            await asyncio.gather(*(call(f"{number}-{n}") for n in range(20)))
    await until(lambda: _answers(leases, "second"))
    postgres.kill()
    for number in range(10):
        await call(f"dead-{number}")
    # The others did not try; how long these took is measured by `make -C lab live`.
    assert state.counted[REFUSED,] > 150
    await asyncio.to_thread(postgres.start)
    await until(lambda: _answers(leases, "third"))
    assert {"first", "second", "third"} <= {*await leases.holders("k")}
    await state.close()


async def test_a_database_that_is_made_again_and_a_new_password_need_no_restart(
    postgres: postgresql.Server, tmp_path: Path
) -> None:
    empty = "DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT ALL ON SCHEMA public TO PUBLIC"
    postgres.execute(f"{empty}; DROP ROLE IF EXISTS toy; CREATE ROLE toy LOGIN PASSWORD 'first'")
    url = postgres.url.replace(f"//{postgresql.USER}@", "//toy@")
    config, resources = tmp_path / "config.toml", SharedResources()
    config.write_text(f'[shared]\ndriver="postgresql"\nurl="{url}"\npassword_file="password"')
    (tmp_path / "password").write_text("first")
    leases = Leases("things", 60.0)
    table = SharedTables("rooms", ("CREATE TABLE IF NOT EXISTS pexpolicy_toy (id bigint)",))
    async with resources.shared_state(load(config), None, in_server=True) as state:
        for one in (leases, table):
            one.bind("toy", state)
        await until(lambda: _answers(leases, "one"))
        await table.write(("INSERT INTO pexpolicy_toy VALUES (1)", ()))
        postgres.execute(empty)
        with pytest.raises(SharedUnavailableError):
            await leases.count("k")
        await until(lambda: _answers(leases, "two"))
        assert await table.read("SELECT * FROM pexpolicy_toy") == []
        postgres.execute(
            "ALTER ROLE toy PASSWORD 'second'; SELECT pg_terminate_backend(pid)"
            " FROM pg_stat_activity WHERE usename = 'toy'"
        )
        with pytest.raises(SharedUnavailableError):
            await leases.count("k")
        (tmp_path / "password").write_text("second")
        async with resources.shared_state(load(config), None, in_server=True) as same:
            assert same is state
            await until(lambda: _answers(leases, "four"))


async def test_tables_are_created_while_another_server_writes(postgres: postgresql.Server) -> None:
    postgres.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    create = [f"CREATE TABLE IF NOT EXISTS {name} (id bigint PRIMARY KEY)" for name in ("a", "b")]
    create.append("CREATE INDEX IF NOT EXISTS b_id ON b (id)")
    create.append("INSERT INTO a VALUES (1) ON CONFLICT DO NOTHING")
    states = [PostgresqlState(postgres.url, postgresql.PASSWORD) for _ in range(2)]
    await states[0].create(tuple(create))
    other = await asyncpg.connect(postgres.url, password=postgresql.PASSWORD)
    async with other.transaction():
        await other.execute("UPDATE a SET id = 1")
        creating = asyncio.create_task(states[1].create(tuple(create)))
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        await until(lambda: other.fetchval(waits))
        await other.execute("INSERT INTO b VALUES (1)")
    assert await creating
    await other.close()
    for state in states:
        await state.close()


async def test_one_of_two_that_wait_in_a_circle_is_run_again(postgres: postgresql.Server) -> None:
    postgres.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    state = PostgresqlState(postgres.url, postgresql.PASSWORD, 30.0)
    await state.create(("CREATE TABLE IF NOT EXISTS a (id bigint PRIMARY KEY, n bigint NOT NULL)",))
    await state.run(("INSERT INTO a VALUES ($1, 0)", [(1,), (2,)]))
    add = "UPDATE a SET n = n + 1 WHERE id = $1"
    slow = "SELECT pg_sleep(0.2)"
    orders = ((1, 2), (2, 1))
    await asyncio.gather(*(state.run((add, (x,)), (slow, ()), (add, (y,))) for x, y in orders))
    assert await state.run(("SELECT n FROM a", ())) == [[(2,), (2,)]]
    await state.close()


async def _answers(leases: Leases, holder: str) -> bool:
    try:
        return await leases.acquire("k", holder)
    except SharedUnavailableError:
        return False
