"""The experiments; each returns a finding with the number of trials."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.audit.load import Answers, load
from lab.audit.server import Finding, Server, audit_files, check, start_process
from pexpolicy.audit.reader import raw_lines
from pexpolicy.audit.spool import SUFFIX
from tests.support.waiting import wait_until

CONNECTIONS = 8
SEED = 20261126


@contextmanager
def _disk(megabytes: int) -> Iterator[Path]:
    """A small disk in memory; raises `PermissionError` if it may not be mounted."""
    with tempfile.TemporaryDirectory() as folder, _mounted(Path(folder), f"size={megabytes}m"):
        yield Path(folder)


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[None]:
    command = ("mount", "-t", "tmpfs", "-o", options, "pexpolicy-chaos", str(folder))
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise PermissionError("mounting a disk is not permitted here")
    try:
        yield
    finally:
        subprocess.run(("umount", "--lazy", str(folder)), check=True)


async def killed(folder: Path, kills: int, calls: int) -> Finding:
    """SIGKILL under load, again and again, after `calls` each: is each answer recorded?"""
    finding = Finding("killed under load", f"{kills} SIGKILL")
    rng = random.Random(SEED)
    ids: list[str] = []
    for _ in range(kills):
        server = await Server(folder).start()
        async with load(server.port, CONNECTIONS) as answers:
            until = calls + rng.randrange(calls // 4 + 1)
            await asyncio.to_thread(_wait_for, answers, until)
            await asyncio.sleep(0.01 * rng.random())
            await server.stop(signal.SIGKILL)
        ids += answers.ids
        finding.longest = max(finding.longest, answers.longest)
    await asyncio.to_thread(check, finding, ids, audit_files(folder))
    return finding


async def shared(folder: Path, kills: int, calls: int) -> Finding:
    """Two servers write one file, which they rotate, and one of them is killed again and again."""
    finding = Finding("two servers, one file", f"{kills} SIGKILL of one")
    other = folder / "other"
    other.mkdir()
    table = f'path = "{folder}/audit.jsonl"\nrotate_mb = 1'
    staying = await Server(folder, table).start()
    ids: list[str] = []
    async with load(staying.port, CONNECTIONS // 2) as answers:
        for _ in range(kills):
            server = await Server(other, table).start()
            async with load(server.port, CONNECTIONS // 2) as of_other:
                await asyncio.to_thread(_wait_for, of_other, calls)
                await server.stop(signal.SIGKILL)
            ids += of_other.ids
    await staying.stop()
    finding.longest = answers.longest
    paths = audit_files(folder)
    finding.notes.append(f"{len(paths) - 1} rotations")
    await asyncio.to_thread(check, finding, ids + answers.ids, paths)
    return finding


def _wait_for(answers: Answers, count: int) -> None:
    wait_until(lambda: len(answers.ids) >= count)


async def disk_full(folder: Path, rounds: int, seconds: float) -> Finding:
    """A disk that is full for a while, with a spool on another one."""
    finding = Finding("disk full", f"{rounds} times {seconds:g} s")
    # The lines of all rounds fit, so that it is full only while it is made so.
    with _disk(8 + 8 * rounds) as disk:
        table = f'path = "{disk}/audit.jsonl"\nspool = "."'
        server = await Server(folder, table).start()
        ballast = disk / "ballast"
        async with load(server.port, CONNECTIONS, 0.01) as answers:
            for _ in range(rounds):
                await asyncio.sleep(seconds / 2)
                _fill(ballast)
                await asyncio.sleep(seconds)
                ballast.unlink()
                await asyncio.sleep(seconds / 2 + 0.6)
        await asyncio.sleep(1.2)
        await server.stop()
        _compare(finding, server, answers.longest, rounds)
        check(finding, answers.ids, audit_files(disk))
    return finding


async def killed_with_spool(folder: Path, rounds: int, calls: int) -> Finding:
    """A disk that is full again and again; each second time the server is killed meanwhile."""
    finding = Finding("disk full and killed", f"{rounds} times full, {rounds // 2} SIGKILL")
    ids: list[str] = []
    # As before; a call takes 1 KB.
    with _disk(8 + rounds * (2 + calls // 200)) as disk:
        table = f'path = "{disk}/audit.jsonl"\nspool = "."'
        ballast = disk / "ballast"
        for number in range(rounds):
            server = await Server(folder, table).start()
            async with load(server.port, CONNECTIONS, 0.002) as answers:
                await asyncio.to_thread(_wait_for, answers, calls)
                _fill(ballast)
                await asyncio.to_thread(_wait_for, answers, len(answers.ids) + calls)
                if number % 2:
                    await server.stop(signal.SIGKILL)
                ballast.unlink()
                if not number % 2:
                    await asyncio.to_thread(_wait_for, answers, len(answers.ids) + calls)
            if not number % 2:
                await server.stop()
            ids += answers.ids
            finding.longest = max(finding.longest, answers.longest)
        # The next start writes the lines that are left in the spool.
        await (await Server(folder, table).start()).stop()
        if any(path.suffix == SUFFIX for path in await asyncio.to_thread(_files, folder)):
            finding.wrong.append("a spool is left")
        await asyncio.to_thread(check, finding, ids, audit_files(disk))
    return finding


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue


def _compare(finding: Finding, server: Server, longest: float, alerts: int) -> None:
    """Expect one alert for each failure on standard error, and no lost line."""
    finding.longest = longest
    log = server.log.decode()
    failures, recoveries = log.count("cannot be written"), log.count("is written again")
    finding.notes.append(f"alerts {failures}, recoveries {recoveries}")
    if failures < alerts or recoveries < alerts:
        finding.wrong.append(f"{failures} alerts and {recoveries} recoveries of {alerts}")
    if "loses lines" in log:
        finding.wrong.append("lines were lost")


async def read_only(folder: Path, rounds: int, seconds: float) -> Finding:
    """Make the folder read-only for a while, without a spool: lines wait in memory.

    A disk with a file that is open for writing does not become read-only by a command, so another
    one that is read-only covers it.
    """
    finding = Finding("read-only", f"{rounds} times {seconds:g} s")
    with _disk(64) as disk:
        server = await Server(folder, f'path = "{disk}/audit.jsonl"').start()
        async with load(server.port, CONNECTIONS, 0.01) as answers:
            for _ in range(rounds):
                await asyncio.sleep(seconds / 2)
                with _mounted(disk, "ro"):
                    await asyncio.sleep(seconds)
                await asyncio.sleep(seconds / 2 + 0.6)
        await asyncio.sleep(1.2)
        await server.stop()
        _compare(finding, server, answers.longest, rounds)
        check(finding, answers.ids, audit_files(disk))
    return finding


async def deleted(folder: Path, rounds: int) -> Finding:
    """The file is deleted under load: is each line in what was read before, or in the new file?"""
    finding = Finding("deleted under load", f"{rounds} deletions")
    server = await Server(folder).start()
    copies = folder / "copies"
    copies.mkdir()
    slowest = 0.0
    async with load(server.port, CONNECTIONS, 0.002) as answers:
        for number in range(rounds):
            await asyncio.sleep(0.3 + 0.05 * (number % 20))
            content = server.path.read_bytes()
            server.path.unlink()
            # The last line of a copy is incomplete if it was read while the server wrote it. The
            # server repeats the lines of the last second in the new file.
            (copies / f"{number:04}").write_bytes(content[: content.rfind(b"\n") + 1])
            began = time.monotonic()
            await asyncio.to_thread(wait_until, server.path.exists)
            slowest = max(slowest, time.monotonic() - began)
    await server.stop()
    finding.longest = answers.longest
    finding.notes.append(f"noticed after {slowest:.2f} s at most")
    if slowest > 1.5:
        finding.wrong.append("it was noticed late")
    check(finding, answers.ids, [*sorted(copies.iterdir()), server.path], doubled=True)
    return finding


async def rotated(folder: Path, rounds: int, pause: float) -> Finding:
    """Rename and signal under load, as logrotate does, in quick succession."""
    finding = Finding("rename and SIGUSR1", f"{rounds} rotations")
    server = await Server(folder).start()
    async with load(server.port, CONNECTIONS) as answers:
        for number in range(rounds):
            await asyncio.sleep(pause)
            server.path.rename(folder / f"audit.jsonl.{rounds - number}")
            os.kill(server.process.pid, signal.SIGUSR1)
            await asyncio.to_thread(wait_until, server.path.exists)
    await server.stop()
    finding.longest = answers.longest
    await asyncio.to_thread(check, finding, answers.ids, audit_files(folder))
    return finding


async def logrotate(folder: Path, rounds: int) -> Finding:
    """The real logrotate, under load."""
    finding = Finding("logrotate under load", f"{rounds} rotations")
    if shutil.which("logrotate") is None:
        return Finding(finding.name, "not run", notes=["logrotate is not installed"])
    server = await Server(folder).start()
    config = folder / "logrotate.conf"
    config.write_text(
        f"{server.path} {{\n rotate {rounds + 9}\n nocreate\n missingok\n compress\n"
        f" delaycompress\n postrotate\n  kill -USR1 {server.process.pid}\n endscript\n}}\n"
    )
    config.chmod(0o644)
    command = ("logrotate", "--force", "--state", str(folder / "state"), str(config))
    async with load(server.port, CONNECTIONS) as answers:
        for _ in range(rounds):
            await asyncio.sleep(0.1)
            await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
            await asyncio.to_thread(wait_until, server.path.exists)
    await server.stop()
    finding.longest = answers.longest
    await asyncio.to_thread(check, finding, answers.ids, audit_files(folder))
    return finding


async def stalled(folder: Path, seconds: float, pause: float = 0.05) -> Finding:
    """Standard output is a pipe, and its reader stops for a while."""
    finding = Finding("stopped reader of standard output", f"{seconds:g} s")
    copy = (folder / "audit.jsonl").open("wb")
    reader = start_process(("cat",), stdin=subprocess.PIPE, stdout=copy)
    assert reader.stdin is not None
    server = await Server(folder, "").start(stdout=reader.stdin)
    reader.stdin.close()
    async with load(server.port, CONNECTIONS, pause) as answers:
        await asyncio.sleep(0.3)
        reader.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        reader.send_signal(signal.SIGCONT)
        await asyncio.sleep(1.5)
    await server.stop()
    await asyncio.to_thread(reader.wait)
    copy.close()
    finding.longest = answers.longest
    if answers.longest > 4.0:
        finding.wrong.append("a call was answered late")
    check(finding, answers.ids, [folder / "audit.jsonl"])
    finding.notes.append(f"{sum(1 for _ in raw_lines(audit_files(folder)))} lines in the end")
    return finding
