"""Load by one wrk per server, pinned to the loading core."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.cores import pinned

_SCRIPT = Path(__file__).with_name("wrk.lua")


class WrkMissing(RuntimeError):
    """wrk, the load generator, is not installed."""


class LoadFailed(RuntimeError):
    """A run had failed calls, or wrk itself failed."""


@dataclass(frozen=True)
class Totals:
    """Counts of one run of wrk; closed-loop latencies in microseconds."""

    requests: int
    bad_status: int
    socket_errors: int
    p50_us: int
    p99_us: int


@dataclass(frozen=True)
class Target:
    """A port on loopback and the file of calls for one wrk."""

    name: str
    port: int
    calls: Path
    tls: bool = False


def require_wrk() -> str:
    """Return the path of wrk.

    :raises WrkMissing: with what to do about it.
    """
    if path := shutil.which("wrk"):
        return path
    raise WrkMissing("wrk makes the load and is not installed; on Debian: apt-get install wrk")


def run(
    targets: Sequence[Target],
    *,
    seconds: int,
    connections: int,
    core: int | None,
    any_status: bool = False,
    pause_ms: int = 0,
) -> dict[str, Totals]:
    """Load every target at the same time for ``seconds``; return totals by target name.

    A connection sends the next request ``pause_ms`` after a reply.

    :raises LoadFailed: when any call failed: a figure with failures in it means nothing. With
        ``any_status`` a call fails only when it gets no reply.
    """
    wrk = require_wrk()
    with ExitStack() as stack:
        started = []
        for target in targets:
            command = _command(wrk, target, seconds, connections)
            if pause_ms:
                command.append(str(pause_ms))
            with pinned(core):
                child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            stack.callback(_end, child)
            started.append((target.name, child))
        return {
            name: _totals(name, child, seconds, any_status=any_status) for name, child in started
        }


def _command(wrk: str, target: Target, seconds: int, connections: int) -> list[str]:
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "-s", str(_SCRIPT)]
    scheme = "https" if target.tls else "http"
    return [wrk, *options, f"{scheme}://127.0.0.1:{target.port}", "--", str(target.calls)]


def _totals(name: str, child: subprocess.Popen[str], seconds: int, *, any_status: bool) -> Totals:
    printed, _ = child.communicate(timeout=seconds + 30)
    lines = [line for line in printed.splitlines() if line.startswith("totals ")]
    if child.returncode or not lines:
        raise LoadFailed(f"{name}: wrk ended with status {child.returncode} and no totals")
    totals = Totals(**json.loads(lines[0].removeprefix("totals ")))
    bad = 0 if any_status else totals.bad_status
    if bad or totals.socket_errors or not totals.requests:
        raise LoadFailed(
            f"{name}: {totals.requests} calls, {totals.bad_status} not answered with 2xx,"
            f" {totals.socket_errors} socket errors"
        )
    return totals


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        child.kill()
    child.wait()
