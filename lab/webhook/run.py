"""One run: a server under load, a receiver with faults, and a comparison of audit and events."""

import asyncio
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from lab.chaos.audit.load import load
from tests.support.server_process import free_port

CONFIG = """
[server]
workers = {workers}

[audit]
path = "audit.jsonl"

[plugins.rooms.settings]
default_room = "Room {{local_alias}}"

[plugins.domains.settings]
allowed = ["@example.com"]

[plugins.webhook.settings]
url = "http://127.0.0.1:{receiver}/events"
spool = "spool"
spool_mb = {spool_mb}
batch = {batch}
timeout = 2.0
source = "urn:experiment"
"""
FAULTS = ("killed", "frozen", "slow", "none")
TIMEOUT_S = 60.0


@dataclass
class Report:
    """The figures of a run; it succeeded if `wrong` is empty."""

    answered: int = 0
    recorded: int = 0
    received: int = 0
    repeated: int = 0
    longest: float = 0.0
    """Seconds of the longest call."""
    faults: Counter[str] = field(default_factory=Counter)
    peak_mib: float = 0.0
    """Largest size of the spool."""
    loading: float = 0.0
    """Seconds of load."""
    catching_up: float = 0.0
    """Seconds from the end of the last fault until all had arrived."""
    wrong: list[str] = field(default_factory=list)


class Receiver:
    """The process of the receiver."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.file = folder / "received"
        self.file.touch()
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        module = ("-m", "lab.webhook.receiver", str(self.port), str(self.file))
        self._process = _started((sys.executable, *module), None)
        for _ in range(400):
            with suppress(aiohttp.ClientError):
                await self.delay(0.0)
                return
            await asyncio.sleep(0.05)
        raise TimeoutError

    def send(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        if number == signal.SIGKILL:
            self._process.wait()

    async def delay(self, seconds: float) -> None:
        url = f"http://127.0.0.1:{self.port}/delay?seconds={seconds}"
        async with aiohttp.ClientSession() as session, session.post(url):
            pass


class Server:
    """The processes of the server, in a process group of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = 0

    async def start(self) -> None:
        command = (sys.executable, "-m", "pexpolicy", "serve", "--port", "0", "--admin-port", "0")
        log = self._folder / "server.log"
        with log.open("ab") as output:
            before = output.tell()
            self._process = _started(command, self._folder, output)
        for _ in range(int(TIMEOUT_S / 0.05)):
            found = re.search(
                rb"answers on http://[\d.]+:(\d+).*admin listener: (\S+?)\)",
                log.read_bytes()[before:],
            )
            if found is not None:
                self.port, self._admin = int(found[1]), found[2].decode()
                return
            await asyncio.sleep(0.05)
        raise TimeoutError(log.read_text())

    async def metric(self, name: str, label: str = "") -> float:
        """Return the sum of a metric, of its series with a label."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self._admin}/metrics") as reply,
        ):
            text = await reply.text()
        found = re.findall(rf"^{re.escape(name)}(\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
        return sum(float(value) for labels, value in found if label in labels)

    def stop(self, number: int) -> None:
        """Send a signal to all processes, and wait for the first one."""
        if number == signal.SIGKILL:
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)
        self._process.wait(TIMEOUT_S)


def _started(
    command: tuple[str, ...], folder: Path | None, output: object = None
) -> subprocess.Popen[bytes]:
    stderr = output if output is not None else subprocess.DEVNULL
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=stderr, process_group=0
    )


async def run(
    folder: Path, calls: int, *, seconds: float, workers: int, spool_mb: int, batch: int
) -> Report:
    """Make `calls` calls while a fault of `seconds` follows another; then compare."""
    report, receiver, server = Report(), Receiver(folder), Server(folder)
    config = CONFIG.format(workers=workers, receiver=receiver.port, spool_mb=spool_mb, batch=batch)
    (folder / "config.toml").write_text(config)
    await receiver.start()
    await server.start()
    try:
        began = time.monotonic()
        async with load(server.port, 16) as answers:
            for fault in itertools.cycle(FAULTS):
                if len(answers.ids) >= calls or answers.broken:
                    break
                report.faults[fault] += 1
                await _make(receiver, fault, seconds, folder, report)
        report.loading = time.monotonic() - began
        report.answered, report.longest = len(answers.ids), answers.longest
        if answers.broken or answers.unusable:
            report.wrong.append(f"{answers.broken} connections ended, {answers.unusable[:3]}")
        # The server is killed while its receiver is down, with events in the spool.
        receiver.send(signal.SIGKILL)
        dropped = await server.metric("pexpolicy_observer_calls_total", '"dropped"')
        await _until_spooled(server)
        server.stop(signal.SIGKILL)
        report.faults["server killed"] += 1
        await server.start()
        await receiver.start()
        began = time.monotonic()
        await _compare(folder, receiver, report)
        report.catching_up = time.monotonic() - began
        dropped += await server.metric("pexpolicy_plugin_webhook_events_refused_total")
        if dropped:
            report.wrong.append(f"{dropped:.0f} decisions were dropped")
    finally:
        with suppress(ProcessLookupError, AttributeError):
            server.stop(signal.SIGTERM)
        receiver.send(signal.SIGKILL)
    if left := [path.name for path in (folder / "spool").iterdir()]:
        report.wrong.append(f"{len(left)} files are left in the spool, such as {left[0]}")
    return report


async def _make(
    receiver: Receiver, fault: str, seconds: float, folder: Path, report: Report
) -> None:
    """Make one fault, and mend it after `seconds`."""
    if fault == "killed":
        receiver.send(signal.SIGKILL)
    elif fault == "frozen":
        receiver.send(signal.SIGSTOP)
    elif fault == "slow":
        await receiver.delay(1.0)
    await asyncio.sleep(seconds)
    used = sum(path.stat().st_size for path in _files(folder / "spool"))
    report.peak_mib = max(report.peak_mib, used / (1 << 20))
    if fault == "killed":
        await receiver.start()
    elif fault == "frozen":
        receiver.send(signal.SIGCONT)
    elif fault == "slow":
        await receiver.delay(0.0)


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            path.stat()
            yield path


async def _until_spooled(server: Server) -> None:
    for _ in range(int(TIMEOUT_S / 0.1)):
        if not await server.metric("pexpolicy_observer_pending"):
            return
        await asyncio.sleep(0.1)
    raise TimeoutError


async def _compare(folder: Path, receiver: Receiver, report: Report) -> None:
    """Wait until each decision of the audit has arrived; stop when nothing arrives any more."""
    with (folder / "audit.jsonl").open() as lines:
        recorded = {json.loads(line)["decision_id"] for line in lines if '"decision"' in line}
    report.recorded = len(recorded)
    size, since = -1, time.monotonic()
    while True:
        received = receiver.file.read_text().split()
        missing = recorded - set(received)
        if not missing or time.monotonic() - since > TIMEOUT_S:
            break
        if len(received) != size:
            size, since = len(received), time.monotonic()
        await asyncio.sleep(0.5)
    report.received = len(set(received))
    report.repeated = len(received) - report.received
    if missing:
        report.wrong.append(f"{len(missing)} decisions never arrived, such as {min(missing)}")
    if unknown := set(received) - recorded:
        report.wrong.append(f"{len(unknown)} events are of no decision")
    # What the receiver stored is acknowledged to the plugin a moment later.
    await asyncio.sleep(5)
