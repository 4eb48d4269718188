"""Command that asks a PostgreSQL server by key while it is frozen and killed; exit code 1 if an
answer was late, failed or too old, if the source did not recover, or if connections were left.
"""

import argparse
import asyncio
import random
import sys
import time
from contextlib import suppress
from typing import NamedTuple

from rich.console import Console

from pexpolicy_sources import Lookup, SourceError
from pexpolicy_sources.sql import SqlSource
from pexpolicy_sources.sql_settings import SqlSettings
from tests.support import postgresql

KEYS = 200
PAUSE_S = 0.002
TIMEOUT_S = 0.5
REFRESH_AFTER_S = 1.0
LATE_S = TIMEOUT_S + 0.2
"""Seconds for a call; more than the timeout, because the machine has other work, too."""
RECOVERY_S = 5.0
TABLE = """
CREATE TABLE rooms (alias text PRIMARY KEY, name text);
INSERT INTO rooms SELECT 'room' || i, 'Room ' || i FROM generate_series(1, {rows}) i;
ANALYZE rooms;
"""
CONNECTIONS = "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'pexpolicy'"


class Call(NamedTuple):
    """A call: when it began, its seconds, and the age of its answer; ``None`` for a failure."""

    began: float
    seconds: float
    age: float | None


async def _ask(lookup: Lookup, calls: list[Call]) -> None:
    began = time.monotonic()
    age: float | None = None
    with suppress(SourceError):
        age = (await lookup.ask(alias=f"room{random.randint(1, KEYS)}")).age
    calls.append(Call(began, time.monotonic() - began, age))


async def _load(lookup: Lookup, seconds: float) -> list[Call]:
    calls: list[Call] = []
    end = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        while time.monotonic() < end:
            group.create_task(_ask(lookup, calls))
            await asyncio.sleep(PAUSE_S)
    return calls


async def run(server: postgresql.Server, seconds: float, reloads: int, console: Console) -> bool:
    """Ask through all phases, print a line for each, and return whether all was right."""
    secret = str(server.folder / "password")
    limits = {"timeout": TIMEOUT_S, "refresh_after": REFRESH_AFTER_S}
    settings = SqlSettings.model_validate({"url": server.url, "password_file": secret, **limits})
    right = True

    def report(phase: str, calls: list[Call]) -> None:
        nonlocal right
        longest = max(call.seconds for call in calls)
        failed = sum(call.age is None for call in calls)
        oldest = max((call.age for call in calls if call.age is not None), default=0.0)
        right &= longest <= LATE_S and not failed
        console.print(
            f"{phase}: {len(calls):,} calls, longest {longest:.3f} s, {failed} failed, "
            f"oldest answer {oldest:.1f} s"
        )

    def recovered(since: float, calls: list[Call]) -> None:
        nonlocal right
        old = [c.began for c in calls if c.age is None or c.age > REFRESH_AFTER_S + PAUSE_S]
        after = max(old, default=since) - since
        right &= after <= RECOVERY_S
        console.print(f"recovered after {after:.2f} s")

    async with SqlSource(settings) as source:
        lookup = source.lookup("SELECT name FROM rooms WHERE alias = :alias", ["alias"])
        for number in range(1, KEYS + 1):
            await lookup.ask(alias=f"room{number}")
        report("healthy", await _load(lookup, seconds))
        with server.frozen():
            report("frozen", await _load(lookup, seconds))
        began = time.monotonic()
        calls = await _load(lookup, RECOVERY_S + 1)
        recovered(began, calls)
        await asyncio.to_thread(server.kill)
        report("killed", await _load(lookup, seconds))
        await asyncio.to_thread(server.start)
        began = time.monotonic()
        calls = await _load(lookup, RECOVERY_S + 1)
        recovered(began, calls)
    for _ in range(reloads):
        async with SqlSource(settings) as source:
            lookup = source.lookup("SELECT name FROM rooms WHERE alias = :alias", ["alias"])
            async with asyncio.TaskGroup() as group:
                for number in range(8):
                    group.create_task(lookup.ask(alias=f"room{number}"))
    async with SqlSource(settings) as source:
        await asyncio.sleep(1)
        left = (await source.lookup(CONNECTIONS, []).ask()).rows[0]["n"] - 1
    console.print(f"{reloads} times opened and closed: {left} connections left")
    return right and not left


def main() -> int:
    """Read the options, run, and end the server."""
    options = argparse.ArgumentParser(prog="python -m lab.sources", description=__doc__)
    options.add_argument("--seconds", type=float, default=10.0, help="of each phase")
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--reloads", type=int, default=500)
    given = options.parse_args()
    with postgresql.Server.running() as server:
        server.execute(TABLE.format(rows=given.rows))
        console = Console(highlight=False)
        return not asyncio.run(run(server, given.seconds, given.reloads, console))


if __name__ == "__main__":
    sys.exit(main())
