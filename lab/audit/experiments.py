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

from lab.audit.server import Server, audit_files, check, under_load, wait_for
from lab.report import Finding
from pexpolicy.audit.spool import SUFFIX
from tests.support.waiting import wait_until

SEED = 20261126
FAILED, WRITTEN = b"cannot be written", b"is written again"


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
    finding, ids = Finding("killed under load", f"{kills} SIGKILL"), list[str]()
    rng = random.Random(SEED)
    for _ in range(kills):
        async with under_load(folder, finding, ids) as (server, answers):
            await wait_for(answers, calls + rng.randrange(calls // 4 + 1))
            await asyncio.sleep(0.01 * rng.random())
            await server.stop(signal.SIGKILL)
    # The next start overwrites the line that the last kill may have torn.
    await (await Server(folder).start()).stop()
    return await check(finding, ids, audit_files(folder))


async def shared(folder: Path, kills: int, calls: int) -> Finding:
    """Two servers write one file, which they rotate, and one of them is killed again and again."""
    finding, ids = Finding("two servers, one file", f"{kills} SIGKILL of one"), list[str]()
    (other := folder / "other").mkdir()
    table = f'path = "{folder}/audit.jsonl"\nrotate_mb = 1'
    async with under_load(folder, finding, ids, table, connections=4):
        for _ in range(kills):
            async with under_load(other, finding, ids, table, connections=4) as (server, answers):
                await wait_for(answers, calls)
                await server.stop(signal.SIGKILL)
    # As before.
    await (await Server(folder, table).start()).stop()
    finding.notes.append(f"{len(audit_files(folder)) - 1} rotations")
    return await check(finding, ids, audit_files(folder))


async def disk_full(folder: Path, rounds: int, seconds: float) -> Finding:
    """A disk that is full for a while, with a spool on another one."""
    finding, ids = Finding("disk full", f"{rounds} times {seconds:g} s"), list[str]()
    # The lines of all rounds fit, so that it is full only while it is made so.
    with _disk(8 + 8 * rounds) as disk:
        table = f'path = "{disk}/audit.jsonl"\nspool = "."'
        async with under_load(folder, finding, ids, table, pause=0.01) as (server, _):
            for _ in range(rounds):
                await asyncio.sleep(seconds / 2)
                _fill(disk / "ballast")
                await _logged(server, FAILED, WRITTEN)
                await asyncio.sleep(seconds)
                (disk / "ballast").unlink()
                await _logged(server, WRITTEN, FAILED)
        _compare(finding, server, rounds)
        return await check(finding, ids, audit_files(disk))


async def read_only(folder: Path, rounds: int, seconds: float) -> Finding:
    """Make the folder read-only for a while, without a spool: lines wait in memory.

    A disk with a file that is open for writing does not become read-only by a command, so another
    one that is read-only covers it.
    """
    finding, ids = Finding("read-only", f"{rounds} times {seconds:g} s"), list[str]()
    with _disk(64) as disk:
        table = f'path = "{disk}/audit.jsonl"'
        async with under_load(folder, finding, ids, table, pause=0.01) as (server, _):
            for _ in range(rounds):
                await asyncio.sleep(seconds / 2)
                with _mounted(disk, "ro"):
                    await _logged(server, FAILED, WRITTEN)
                    await asyncio.sleep(seconds)
                await _logged(server, WRITTEN, FAILED)
        _compare(finding, server, rounds)
        return await check(finding, ids, audit_files(disk))


async def killed_with_spool(folder: Path, rounds: int, calls: int) -> Finding:
    """A disk that is full again and again; each second time the server is killed meanwhile."""
    finding, ids = Finding("disk full and killed", f"{rounds} times full"), list[str]()
    # As before; a call takes 1 KB.
    with _disk(8 + rounds * (2 + calls // 200)) as disk:
        table = f'path = "{disk}/audit.jsonl"\nspool = "."'
        ballast = disk / "ballast"
        for number in range(rounds):
            async with under_load(folder, finding, ids, table, pause=0.002) as (server, answers):
                await wait_for(answers, calls)
                _fill(ballast)
                await wait_for(answers, calls)
                if number % 2:
                    await server.stop(signal.SIGKILL)
                ballast.unlink()
                if not number % 2:
                    await wait_for(answers, calls)
        # The next start writes the lines that are left in the spool.
        await (await Server(folder, table).start()).stop()
        left = await asyncio.to_thread(lambda: list(folder.glob(f"*{SUFFIX}")))
        finding.expect(not left, "a spool is left")
        return await check(finding, ids, audit_files(disk))


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue


async def _logged(server: Server, text: bytes, other: bytes) -> None:
    """Wait until the server has logged a text after another one."""

    def is_last() -> bool:
        log = server.log
        return log.rfind(text) > log.rfind(other)

    await asyncio.to_thread(wait_until, is_last)


def _compare(finding: Finding, server: Server, alerts: int) -> None:
    """Expect one alert for each failure on standard error, and no lost line."""
    failures, recoveries = server.log.count(FAILED), server.log.count(WRITTEN)
    finding.notes.append(f"alerts {failures}, recoveries {recoveries}")
    finding.expect(min(failures, recoveries) >= alerts, f"fewer alerts than {alerts}")
    finding.expect(b"loses lines" not in server.log, "lines were lost")


async def deleted(folder: Path, rounds: int) -> Finding:
    """The file is deleted under load: is each line in what was read before, or in the new file?"""
    finding, ids = Finding("deleted under load", f"{rounds} deletions"), list[str]()
    (copies := folder / "copies").mkdir()
    slowest = 0.0
    async with under_load(folder, finding, ids, pause=0.002) as (server, _):
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
    finding.notes.append(f"noticed after {slowest:.2f} s at most")
    finding.expect_within(slowest, 1.5, "a look at the file")
    return await check(finding, ids, [*sorted(copies.iterdir()), server.path], doubled=True)


async def rotated(folder: Path, rounds: int, pause: float) -> Finding:
    """Rename and signal under load, as logrotate does, in quick succession."""
    finding, ids = Finding("rename and SIGUSR1", f"{rounds} rotations"), list[str]()
    async with under_load(folder, finding, ids) as (server, _):
        for number in range(rounds):
            await asyncio.sleep(pause)
            server.path.rename(folder / f"audit.jsonl.{rounds - number}")
            os.kill(server.process.pid, signal.SIGUSR1)
            await asyncio.to_thread(wait_until, server.path.exists)
    return await check(finding, ids, audit_files(folder))


async def logrotate(folder: Path, rounds: int) -> Finding:
    """The real logrotate, under load."""
    finding, ids = Finding("logrotate under load", f"{rounds} rotations"), list[str]()
    if shutil.which("logrotate") is None:
        raise PermissionError("logrotate is not installed")
    async with under_load(folder, finding, ids) as (server, _):
        config = folder / "logrotate.conf"
        config.write_text(
            f"{server.path} {{\n rotate {rounds + 9}\n nocreate\n missingok\n compress\n"
            f" delaycompress\n postrotate\n  kill -USR1 {server.process.pid}\n endscript\n}}\n"
        )
        config.chmod(0o644)
        command = ("logrotate", "--force", "--state", str(folder / "state"), str(config))
        for _ in range(rounds):
            await asyncio.sleep(0.1)
            await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
            await asyncio.to_thread(wait_until, server.path.exists)
    return await check(finding, ids, audit_files(folder))


async def stalled(folder: Path, seconds: float, pause: float = 0.05) -> Finding:
    """Standard output is a pipe, and its reader stops for a while."""
    finding, ids = Finding("stopped reader of standard output", f"{seconds:g} s"), list[str]()
    with (folder / "audit.jsonl").open("wb") as copy:
        reader = await asyncio.to_thread(
            lambda: subprocess.Popen(("cat",), stdin=subprocess.PIPE, stdout=copy)
        )
        assert reader.stdin is not None
        started = under_load(folder, finding, ids, "", pause=pause, stdout=reader.stdin)
        async with started:
            reader.stdin.close()
            await asyncio.sleep(0.3)
            reader.send_signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            reader.send_signal(signal.SIGCONT)
            await asyncio.sleep(1.5)
        await asyncio.to_thread(reader.wait)
    finding.expect_within(finding.longest, 4.0, "a call")
    return await check(finding, ids, [folder / "audit.jsonl"])
