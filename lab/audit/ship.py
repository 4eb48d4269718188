"""Experiments of the audit in a database: everything is killed in turn, and PostgreSQL frozen."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.audit.server import Server, audit_files, check, under_load, wait_for
from lab.report import Finding
from pexpolicy.audit.hash_chain import TAIL
from pexpolicy.audit.reader import raw_lines
from tests.support import forked, postgresql, wire
from tests.support.processes import wait_for_end
from tests.support.waiting import wait_until

PAUSE_S = 0.016
"""Of each of 8 connections, which makes 500 calls in a second."""


class Shipper:
    """The process that copies the audit of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.start()

    def start(self) -> None:
        command = (sys.executable, "-m", "pexpolicy", "audit", "ship")
        with (self._folder / "ship.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stderr=log)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def _shipping(folder: Path, more: str) -> Iterator[tuple[postgresql.Server, Shipper, str]]:
    """Yield the database, the shipper and the table of the server."""
    with postgresql.Server.running() as database:
        table = (
            f'path = "audit.jsonl"\ninstance = "lab"\nrotate_mb = 1\n{more}\n[audit.ship]\n'
            f'url = "{database.url}"\npassword_file = "{database.folder}/password"\n'
            "[server]\nworkers = 2"
        )
        Server(folder, table)
        shipper = Shipper(folder)
        try:
            yield database, shipper, table
        finally:
            shipper.kill()


def _crash(database: postgresql.Server) -> None:
    """Kill all processes of the database, and start it again."""
    with database.frozen() as processes:
        for process in reversed(processes):  # as long as it lives, none of its own is reaped
            os.kill(process, signal.SIGKILL)
    wait_for_end(*processes)
    database.kill()
    database.start()


def _keys(paths: list[Path]) -> set[str]:
    """Return the chain and number of each line."""
    found = (TAIL.search(raw.content) for raw in raw_lines(paths))
    return {f"{match[1].decode()}|{int(match[2])}" for match in found if match}


def _stored(database: postgresql.Server) -> set[str]:
    return set(database.query("SELECT boot_id, seq FROM audit_lines").splitlines())


def _verify(finding: Finding, folder: Path) -> None:
    done = forked.run("audit", "verify", "--from-database", "--json", cwd=folder)
    *faults, counts = done.stdout.splitlines() or [done.stderr]
    finding.wrong += faults
    finding.expect(done.returncode == 0, f"verify: exit code {done.returncode}: {counts[:200]}")
    finding.notes.append(f"{json.loads(counts)['lines']} lines" if done.stdout else "")


async def crashed(folder: Path, rounds: int, calls: int) -> Finding:
    """Kill the shipper, the server and the database in turn, under load."""
    finding = Finding("shipper, server and PostgreSQL killed", f"{rounds} kills")
    ids: list[str] = []
    with _shipping(folder, "") as (database, shipper, table):
        for number in range(0, rounds, 3):
            async with under_load(folder, finding, ids, table, pause=PAUSE_S) as (server, load):
                await wait_for(load, calls)
                shipper.kill()
                await wait_for(load, calls)
                shipper.start()
                await wait_for(load, calls)
                if number + 1 < rounds:
                    await asyncio.to_thread(_crash, database)
                    await wait_for(load, calls)
                if number + 2 < rounds:
                    await server.stop(signal.SIGKILL)
        # The next start overwrites the line that the last kill may have torn.
        await (await Server(folder, table).start()).stop()
        paths = audit_files(folder)
        wanted = _keys(paths)
        wait_until(lambda: len(_stored(database)) >= len(wanted))
        finding.expect(_stored(database) == wanted, "the rows are not the lines")
        await asyncio.to_thread(_verify, finding, folder)
    return await check(finding, ids, paths)


async def frozen(folder: Path, seconds: float) -> Finding:
    """Freeze the database under load, while few files are to be kept."""
    finding = Finding("PostgreSQL frozen", f"{seconds:g} s")
    ids: list[str] = []
    with _shipping(folder, "keep = 1") as (database, _, table):
        async with under_load(folder, finding, ids, table, pause=PAUSE_S) as (server, load):
            await wait_for(load, 500)
            with database.frozen():
                before, until = _keys(audit_files(folder)), time.monotonic() + seconds
                while time.monotonic() < until:
                    await wait_for(load, 100)
                files = audit_files(folder)
                headers = {"Host": "127.0.0.1"}
                reply = await asyncio.to_thread(
                    wire.ask_blocking, server.admin_port, "/status", headers=headers
                )
                lag = json.loads(reply.body)["audit"]["ship_lag"]
                finding.notes.append(f"lag {lag:.0f} s, {len(files)} files")
                finding.expect(lag > seconds - 1, f"the lag is {lag:.1f} s")
                finding.expect_within(lag, seconds + 30, "a line, until it was copied,")
                finding.expect(before <= _keys(files), "lines were removed before they were copied")
                finding.expect_within(load.longest, 1.0, "a call")
            await wait_for(load, 500)
        known = 'SELECT count(*) FROM audit_lines WHERE line LIKE \'%"event":"decision"%\''
        wait_until(lambda: int(database.query(known)) >= len(ids))
        stored = database.query("SELECT line::json->>'decision_id' FROM audit_lines").splitlines()
        finding.expect(set(ids) <= set(stored), "answers without a row")
        await asyncio.to_thread(_verify, finding, folder)
    finding.answered = len(ids)
    return finding
