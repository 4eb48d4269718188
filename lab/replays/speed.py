"""Measure replays: `python -m lab.replays.speed [RECORDS]`.

An audit of the calls of the benchmark, with a damaged line in each thousand, is replayed against a
changed configuration, in one worker process and in two. Processor time is that of all processes,
and memory the sum of the most that each one has used.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from uuid_utils import uuid7
from yarl import URL

from bench.traffic import PER_CALL, PREPARED
from tests.replay import audits
from tests.support import live_server

DAMAGED = 1_000
"""One line in so many is damaged."""
DISTINCT = 2_048
"""Calls of each scenario of the benchmark that are taken."""
START = datetime(2026, 1, 15, tzinfo=UTC)


class Measured(NamedTuple):
    """One replay: its report, seconds of processor time and on the clock, and MiB of memory."""

    report: dict[str, Any]
    cpu: float
    clock: float
    memory: float


def write_audit(folder: Path, records: int) -> tuple[Path, int]:
    """Write an audit of so many lines; return it and the number of damaged ones."""
    calls = [
        ("service_configuration", "", [*URL(target).query.items()], START)
        for traffic in (PREPARED, PER_CALL)
        for target in traffic.targets[:DISTINCT]
    ]
    (folder / "config.toml").write_text(live_server.SHIPPED.read_text())
    base = audits.written(folder / "config.toml", calls, folder / "base.jsonl")
    templates = []
    for line in base.read_text().splitlines():
        event = json.loads(line)
        marked = line.replace(event["decision_id"], "{id}").replace(event["timestamp"], "{at}")
        templates.append(marked.split("{id}"))
    chosen = random.Random(1)
    path = folder / "audit.jsonl"
    damaged = 0
    with path.open("w") as file:
        for number in range(records):
            at = START + timedelta(milliseconds=37 * number)
            written = str(uuid7()).join(templates[number % len(templates)])
            line = written.replace("{at}", at.isoformat(timespec="milliseconds"), 1)
            if number % DAMAGED == DAMAGED - 1:
                damaged += 1
                line = line[: chosen.randrange(20, len(line) - 1)]
            file.write(line + "\n")
    return path, damaged


def replay(folder: Path, audit: Path, processes: int) -> Measured:
    """Replay an audit against a changed configuration, and measure."""
    changed = live_server.SHIPPED.read_text().replace("Engineering Room", "Engineers")
    (folder / "next.toml").write_text(changed)
    output = folder / "report.json"
    command = [*(sys.executable, "-m", "pexpolicy", "replay", str(audit)), "--json"]
    command += ["--config", str(folder / "next.toml"), "--processes", str(processes)]
    before, began = os.times(), time.monotonic()
    most: dict[int, int] = {}
    with output.open("wb") as file, subprocess.Popen(command, stdout=file) as process:
        while process.poll() is None:
            most |= {pid: max(most.get(pid, 0), size) for pid, size in _sizes(process.pid)}
            time.sleep(0.05)
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    report = json.loads(output.read_text())
    report.pop("seconds")
    return Measured(report, cpu, time.monotonic() - began, sum(most.values()) / 1024)


def _sizes(parent: int) -> list[tuple[int, int]]:
    """Return the processes of a replay, each with the most KiB that it has used."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except OSError:
            continue
        if str(parent) in (lines["Pid"].strip(), lines["PPid"].strip()) and "VmHWM" in lines:
            found.append((int(lines["Pid"]), int(lines["VmHWM"].split()[0])))
    return found


def main(records: int) -> None:
    """Write an audit, replay it in one process and in two, and print what was measured."""
    with tempfile.TemporaryDirectory() as name:
        audit, damaged = write_audit(Path(name), records)
        results = [replay(Path(name), audit, processes) for processes in (1, 2)]
    for processes, one in zip((1, 2), results, strict=True):
        sys.stdout.write(
            f"{records:,} records, worker processes: {processes}; {one.cpu:.0f} s of processor "
            f"time, {one.clock:.0f} s on the clock, {one.memory:.0f} MiB\n"
        )
    unreadable = results[0].report["records"]["unreadable"]
    same = results[0].report == results[1].report
    text = "the same report from both" if same else "DIFFERENT REPORTS"
    sys.stdout.write(f"{damaged:,} damaged, {unreadable:,} counted as unreadable; {text}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
