"""Command that calls a server under load whose sources, PostgreSQL, a web server and slapd, are
frozen and killed, and reloads it; exit code 1 if a call was late, an answer older than its age, if
the server did not recover, or if a connection, descriptor, thread or task was left.
"""

import argparse
import asyncio
import itertools
import json
import os
import re
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import aiohttp
from typing_extensions import override

from lab import report
from lab.report import Finding
from tests.support import live_server, postgresql, slapd
from tests.support.server_process import ServerProcess, free_port
from tests.support.waiting import HANG_S, wait_until

KEYS = 50
PAUSE_S = 0.005
LATE_S = 1.5
"""Seconds of a call; the timeout of the plugin is 1, and the machine has other work, too."""
REFRESH_AFTER_S = 0.5
RECOVERY_S = 5.0
SETTLE_S = 1.0
AT_ONCE = 5
"""Calls that open all connections of a pool, and no more than the web server accepts."""
WARM_UP = 4
"""Reloads before the first count."""
RELOADED = "pexpolicy_config_last_reload_success_timestamp_seconds"
POOL = 4
"""Connections of a server to PostgreSQL or slapd."""
TABLE = """
CREATE TABLE rooms (alias text PRIMARY KEY, name text);
INSERT INTO rooms SELECT 'room' || i, 'Room ' || i FROM generate_series(0, {last}) i;
"""
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pexpolicy'"
CONFIG = """
plugin_dirs = ["plugins"]
[audit]
path = "audit.jsonl"
[sources.db]
driver = "sql"
url = "{database.url}"
password_file = "{database.folder}/password"{limits}
[sources.web]
driver = "http"
url = "{web.url}"{limits}
[sources.people]
driver = "ldap"
url = "{ldap.url}"
base = "{slapd.BASE}"
user = "{slapd.USER}"
password_file = "{ldap.password_file}"
ca_file = "{ldap.ca_file}"{limits}
[sources.lite]
driver = "sql"
path = "rooms.sqlite"{limits}
[sources.list]
driver = "file"
path = "rooms.csv"{limits}
[plugins.counts]
[plugins.sql]
on_error = "reject"
[plugins.sql.settings]
source = "db"
service_configuration = "SELECT name FROM rooms WHERE alias = :local_alias"
[plugins.rules]
on_error = "reject"
"""
RULE = """
[[plugins.rules.settings.rules]]
name = "known to {source}"
endpoint = "participant_properties"
when.{field}.in_source = "{source}"
then = "continue"
[plugins.rules.settings.sources.{source}]
source = "{source}"
query = '{query}'
by_key = {by_key}
"""
RULES = (
    ("web", "remote_alias", "/{value}.json", "true"),
    ("people", "local_alias", "(mail={value}) uid", "true"),
    ("lite", "service_name", "SELECT name FROM rooms WHERE alias = :value", "true"),
    ("list", "service_tag", "", "false"),
)
"""Of each source: what is looked up in it, and how."""
COUNTS = """
import asyncio
import gc
import time

from pexpolicy import hookimpl


class Counts:
    @hookimpl
    async def status(self):
        # The threads of the event loop start when they are needed, up to a limit.
        await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.02) for _ in range(12)))
        gc.unfreeze()
        gc.collect()
        found = gc.get_objects()
        gc.freeze()
        return {"tasks": sum(isinstance(one, asyncio.Task) and not one.done() for one in found)}
"""


class WebServer(ServerProcess):
    """A web server with a file for each room."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._user = self._group = None  # other accounts may not run our interpreter
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        for number in range(KEYS):
            (folder / f"room{number}.json").write_text(json.dumps({"alias": f"room{number}"}))

    @override
    def command(self) -> Sequence[str]:
        port = str(self._port)
        return (sys.executable, "-m", "http.server", port, "--bind", "127.0.0.1")

    @override
    def is_ready(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self._port)) == 0


class Call(NamedTuple):
    """A call: when it was made, its seconds, and whether it was admitted."""

    began: float
    seconds: float
    is_admitted: bool


SOURCES = {
    "PostgreSQL": "/policy/v1/service/configuration?call_direction=dial_in&local_alias=room",
    "the web server": "/policy/v1/participant/properties?remote_alias=room",
    "slapd": "/policy/v1/participant/properties?local_alias=room",
}
"""What is asked about each source that fails."""
TARGETS = (
    *SOURCES.values(),
    "/policy/v1/participant/properties?service_name=room",
    "/policy/v1/participant/properties?service_tag=room",
)
"""What is asked about each source."""


class Load:
    """Calls to one server, and what was wrong with them."""

    def __init__(self, url: str, max_age: float, finding: Finding) -> None:
        self._url = url
        self._max_age = max_age
        self._finding = finding

    async def calls(self, name: str, seconds: float, *, admitted: bool = True) -> list[Call]:
        """Call about a source for some seconds, and then until a call is admitted, or is not."""
        made: list[Call] = []

        async def call(session: aiohttp.ClientSession, number: int) -> None:
            began = time.monotonic()
            async with session.get(f"{self._url}{SOURCES[name]}{number % KEYS}") as reply:
                action = (await reply.json())["action"]
            made.append(Call(began, time.monotonic() - began, action == "continue"))

        end = time.monotonic() + seconds
        async with (
            asyncio.timeout(seconds + HANG_S),
            aiohttp.ClientSession() as session,
            asyncio.TaskGroup() as group,
        ):
            number = 0
            while time.monotonic() < end or not made or made[-1].is_admitted is not admitted:
                group.create_task(call(session, number))
                number += 1
                await asyncio.sleep(PAUSE_S)
        return made

    def report(self, phase: str, calls: list[Call], *, since: float | None = None) -> None:
        """Add a phase; ``since`` is when its source failed."""
        found = self._finding
        rejected = [call.began for call in calls if not call.is_admitted]
        if since is None:
            found.expect(not (rejected and found.is_timed), f"{phase}: {len(rejected)} rejected")
        else:
            last = max((c.began - since for c in calls if c.is_admitted), default=0.0)
            first = min(rejected, default=since) - since
            found.expect_within(last, self._max_age + LATE_S, f"{phase}: stale answers")
            earliest = self._max_age - 2 * REFRESH_AFTER_S - 0.5
            found.expect_within(earliest - first, 0.0, f"{phase}: the time before rejects")
            phase += f", stale answers for {last:.1f} s, rejects after {first:.1f} s"
        longest = max(call.seconds for call in calls)
        found.expect_within(longest, LATE_S, f"{phase}: a call")
        found.notes.append(f"{phase}: longest {longest:.2f} s")
        found.answered += len(calls)
        found.longest = max(found.longest, longest)

    async def fail_and_recover(self, name: str, server: ServerProcess, watched: float) -> None:
        """Freeze a server, then kill it, and wait for its recovery each time."""
        await self.calls(name, 1)  # opens connections
        self.report(f"{name} healthy", await self.calls(name, 2))
        for how in ("frozen", "killed"):
            began = time.monotonic()
            if how == "frozen":
                with server.frozen():
                    calls = await self.calls(name, self._max_age + 2, admitted=False)
            else:
                await asyncio.to_thread(server.kill)
                calls = await self.calls(name, self._max_age + 2, admitted=False)
                await asyncio.to_thread(server.start)
            back = time.monotonic()
            self.report(f"{name} {how}", calls, since=began)
            calls = await self.calls(name, watched)
            failed = max((c.began - back for c in calls if not c.is_admitted), default=0.0)
            self._finding.expect_within(failed, RECOVERY_S, f"{name} {how}: recovery")


def _counts(server: live_server.Running, database: postgresql.Server) -> tuple[int, int, int]:
    """Return the descriptors, threads and tasks of a server while no call is in flight, and its
    pools, which may have opened fewer connections than they may, were used.
    """
    asyncio.run(_burst(server))
    wait_until(lambda: int(database.query(CONNECTIONS)) <= POOL)
    time.sleep(SETTLE_S)
    document = server.operator("/status").json
    (tasks,) = (one["status"]["tasks"] for one in document["plugins"] if one["name"] == "counts")
    return server.open_files, server.threads, tasks


async def _burst(server: live_server.Running) -> None:
    """Ask each source for several keys at once, so that its pool has all connections."""
    async with aiohttp.ClientSession(server.url) as session:

        async def ask(target: str) -> None:
            async with session.get(target) as reply:
                await reply.read()

        for target, first in itertools.product(TARGETS, range(0, KEYS, AT_ONCE)):
            keys = range(first, first + AT_ONCE)
            await asyncio.gather(*(ask(f"{target}{number}") for number in keys))


def _reload(
    config: Path,
    server: live_server.Running,
    database: postgresql.Server,
    ldap: slapd.Server,
    count: int,
    finding: Finding,
) -> None:
    """Reload with changed sources each time; nothing of the others may be left."""
    text = config.read_text()
    texts = (text, text.replace("max_age = ", "entries = 9000\nmax_age = "))
    before = (0, 0, 0)
    for number in range(1 - WARM_UP, count + 1):
        if number == 1:
            before = _counts(server, database)
        last = _reloaded_at(server)
        config.write_text(texts[number % 2])
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: _reloaded_at(server) != last)  # noqa: B023
        for target in TARGETS:  # opens a connection
            server.ask(f"{target}1")

    def is_nothing_left() -> bool:
        after = _counts(server, database)
        left = int(database.query(CONNECTIONS)), ldap.connections()
        counts = f"descriptors, threads, tasks {before} before, {after} after"
        finding.notes.append(f"{count} reloads: {counts}; connections {left}")
        is_right = all(now <= was + POOL for now, was in zip(after, before, strict=True))
        return is_right and all(1 <= number <= POOL for number in left)

    finding.expect_soon(is_nothing_left, "something is left of other generations")


def _reloaded_at(server: live_server.Running) -> str:
    """Return the time of the last reload."""
    text = server.operator("/metrics").body.decode()
    (found,) = re.findall(rf"^{RELOADED} (.*)$", text, re.MULTILINE)
    return str(found)


async def run(
    folder: Path,
    *,
    max_age: float,
    reloads: int,
    names: Sequence[str] = tuple(SOURCES),
    watched: float = RECOVERY_S + 1,
) -> Finding:
    """Run all phases. Recovery is ``watched`` for some seconds."""
    finding = Finding("sources", ", ".join(names))
    people = {
        f"uid=room{number},{slapd.BASE}": slapd.person(f"room{number}", mail=f"Room{number}")
        for number in range(KEYS)
    }
    with (
        postgresql.Server.running() as database,
        WebServer.running() as web,
        slapd.Server.running(people) as ldap,
    ):
        database.execute(TABLE.format(last=KEYS - 1))
        config = _configured(folder, database, web, ldap, max_age)
        with live_server.running(config, folder=folder) as server:
            load = Load(server.url, max_age, finding)
            for name, process in zip(SOURCES, (database, web, ldap), strict=True):
                if name in names:
                    await load.fail_and_recover(name, process, watched)
            await asyncio.to_thread(_reload, config, server, database, ldap, reloads, finding)
    return finding


def _configured(
    folder: Path, database: postgresql.Server, web: WebServer, ldap: slapd.Server, max_age: float
) -> Path:
    """Write the configuration and its files."""
    (folder / "plugins").mkdir()
    (folder / "plugins" / "counts.py").write_text(COUNTS)
    rooms = [(f"room{number}", f"Room {number}") for number in range(KEYS)]
    (folder / "rooms.csv").write_text("alias\n" + "".join(f"{alias}\n" for alias, _ in rooms))
    with closing(sqlite3.connect(folder / "rooms.sqlite")) as lite, lite:
        lite.execute("CREATE TABLE rooms (alias, name)")
        lite.executemany("INSERT INTO rooms VALUES (?, ?)", rooms)
    limits = f"\ntimeout = 0.3\nrefresh_after = {REFRESH_AFTER_S}\nmax_age = {max_age}\n"
    text = CONFIG.format(database=database, web=web, ldap=ldap, slapd=slapd, limits=limits)
    for source, field, query, by_key in RULES:
        text += RULE.format(source=source, field=field, query=query, by_key=by_key)
    config = folder / "config.toml"
    config.write_text(text)
    return config


def main() -> int:
    """Read the options and run."""
    options = argparse.ArgumentParser(prog="python -m lab.sources", description=__doc__)
    options.add_argument("--max-age", type=float, default=10.0)
    options.add_argument("--reloads", type=int, default=500)
    given = options.parse_args()
    experiment = partial(run, max_age=given.max_age, reloads=given.reloads)
    return report.run({"sources": experiment})


if __name__ == "__main__":
    sys.exit(main())
