"""Command that has a plugin write log lines at full load; exit code 1 if anything was wrong.

The reader of standard error is a file, a quick reader, a slow one, or one that stalls. No call may
be late, no line torn, and the lines that were left out must be counted.
"""

import argparse
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from tests.support import wire
from tests.support.server_process import free_port

LATE_S = 1.0
"""The time limit of the plugin."""
SLOW_S = 0.02
"""Pause of a slow reader after 64 KiB."""
PLUGIN = """
import itertools, os, threading
from contextlib import asynccontextmanager
from pexpolicy import Conference, get_logger, hookimpl

log = get_logger()

class Talker:
    def __init__(self, settings):
        self.numbers = itertools.count()

    @hookimpl
    @asynccontextmanager
    async def lifespan(self):
        yield
        with open(f"written-{os.getpid()}", "w") as file:
            file.write(str(next(self.numbers)))

    @hookimpl
    async def service_configuration(self, request):
        for _ in range(LINES):
            log.info("a line", number=next(self.numbers), pid=os.getpid())
        return Conference(name="room", service_tag="")
"""
CONFIG = """
plugin_dirs = ["plugins"]
[audit]
path = "audit.jsonl"
[plugins.talker]
"""


@dataclass
class Trial:
    """What came out of one server: its calls, and the lines of its standard error."""

    name: str
    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)
    written: int = 0
    lines: int = 0
    left_out: int = 0
    torn: int = 0
    outcomes: set[str] = field(default_factory=set)
    recorded: int = 0

    @property
    def wrong(self) -> bool:
        return bool(
            self.statuses != {200}
            or max(self.times) > LATE_S
            or self.torn
            or self.lines + self.left_out != self.written
            or self.outcomes != {"decided"}
            or self.recorded != len(self.times)
        )

    def __str__(self) -> str:
        times = sorted(self.times)
        return (
            f"{self.name}: {self.written:,} lines by {len(times):,} calls in {self.seconds:.0f} s "
            f"({len(times) / self.seconds:.0f} calls a second), {self.lines:,} read, "
            f"{self.left_out:,} left out and counted, {self.torn} torn; "
            f"p50 {times[len(times) // 2] * 1000:.1f} ms, "
            f"p99 {times[int(len(times) * 0.99)] * 1000:.1f} ms, "
            f"longest {times[-1] * 1000:.0f} ms; outcomes: {', '.join(self.outcomes)}"
        )


def read_quickly(reader: int, over: threading.Event) -> bytes:
    content = bytearray()
    while piece := os.read(reader, 1 << 20):
        content += piece
    return bytes(content)


def read_slowly(reader: int, over: threading.Event) -> bytes:
    content = bytearray()
    while piece := os.read(reader, 65536):
        content += piece
        if not over.is_set():
            time.sleep(SLOW_S)
    return bytes(content)


def stall(reader: int, over: threading.Event) -> bytes:
    over.wait()
    return read_quickly(reader, over)


READERS: dict[str, Callable[[int, threading.Event], bytes]] = {
    "quick reader": read_quickly,
    "slow reader": read_slowly,
    "stalled reader": stall,
}


def run(folder: Path, name: str, calls: int, lines: int, workers: int) -> Trial:
    """Serve with this reader under load; read everything, and stop the server."""
    (folder / "plugins").mkdir(parents=True)
    (folder / "plugins" / "talker.py").write_text(PLUGIN.replace("LINES", str(lines)))
    (folder / "config.toml").write_text(CONFIG)
    trial = Trial(name if workers == 1 else f"{name}, {workers} workers")
    reader, writer = os.pipe()
    port = free_port()
    arguments = ("--port", str(port), "--admin-port", "0", "--workers", str(workers))
    stderr: int | Path = folder / "stderr"
    if name in READERS:
        stderr = writer
    over = threading.Event()
    content: list[bytes] = []
    thread = threading.Thread(
        target=lambda: content.append(READERS.get(name, read_quickly)(reader, over))
    )
    thread.start()
    with (folder / "stderr").open("wb") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "pexpolicy", "serve", *arguments],
            cwd=folder,
            stderr=file if isinstance(stderr, Path) else stderr,
            env={**os.environ, "PYTHONPATH": os.getcwd()},  # noqa: PTH109 - of this repository
        )
    try:
        _wait_for(port)
        began = time.monotonic()
        _ask(port, calls, trial)
        trial.seconds = time.monotonic() - began
        over.set()
        # A slow reader takes what waits for it before the server stops.
        time.sleep(2.0)
    finally:
        over.set()
        server.send_signal(signal.SIGTERM)
        server.wait(30)
        os.close(writer)
        thread.join()
        os.close(reader)
    with (folder / "stderr").open("rb") as file:
        _judge(trial, itertools.chain(io.BytesIO(content[0]), file), folder)
    return trial


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if wire.ask_blocking(port, "/readyz").status == 200:
                return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError


def _ask(port: int, calls: int, trial: Trial) -> None:
    """Make the calls from another process, on connections that are always busy."""
    command = [sys.executable, "-m", "lab.log_lines.load", str(port), str(calls)]
    asked = subprocess.run(command, check=True, capture_output=True)
    for status, seconds in json.loads(asked.stdout):
        trial.statuses.add(status)
        trial.times.append(seconds)


def _judge(trial: Trial, stderr: Iterable[bytes], folder: Path) -> None:
    numbers: set[tuple[int, int]] = set()
    for line in stderr:
        if not line.startswith(b"{"):
            trial.torn += b"a line" in line
            continue
        try:
            event = json.loads(line)
        except ValueError:
            trial.torn += 1
            continue
        if event["event"] == "a line":
            numbers.add((event["pid"], event["number"]))
        elif event["event"].startswith("lines of the log were left out"):
            trial.left_out += sum(event["lines"].values())
    trial.lines = len(numbers)
    trial.written = sum(int(path.read_text()) for path in folder.glob("written-*"))
    for audited in (folder / "audit.jsonl").read_text().splitlines():
        for step in json.loads(audited).get("steps", ()):
            trial.recorded += 1
            trial.outcomes.add(step["outcome"])


def main() -> int:
    """Parse the options, run the trials, print a line for each."""
    options = argparse.ArgumentParser(prog="python -m lab.log_lines", description=__doc__)
    options.add_argument("--calls", type=int, default=50_000, metavar="N")
    options.add_argument("--lines", type=int, default=20, metavar="N", help="of each call")
    chosen = options.parse_args()
    console = Console(soft_wrap=True, highlight=False)
    wrong = False
    with tempfile.TemporaryDirectory(prefix="log-lines-") as folder:
        trials = [("no lines", 0, 1), *((name, chosen.lines, 1) for name in ("file", *READERS))]
        trials += [("quick reader", chosen.lines, 2), ("stalled reader", chosen.lines, 2)]
        for number, (name, lines, workers) in enumerate(trials):
            place = Path(folder) / str(number)
            place.mkdir(mode=0o700)
            trial = run(place, name, chosen.calls, lines, workers)
            console.print(str(trial), style="red" if trial.wrong else "", markup=False)
            wrong |= trial.wrong
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
