"""A fuzz run: a server, a sender, and the findings."""

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.fuzz.batch import Sender
from lab.fuzz.grammar import Grammar
from lab.fuzz.replies import Replies
from lab.fuzz.requests import PASSWORD, USER, FuzzCase, request
from lab.fuzz.tally import Tally
from tests.support import live_server

PASSWORD_ENV = "PEXPOLICY_FUZZ_PASSWORD"
CONFIG = f"""
[auth]
user = "{USER}"
password_env = "{PASSWORD_ENV}"

[audit]
path = "/dev/null"

[plugins.domains]
priority = 10
on_error = "reject"

[plugins.domains.settings]
allowed = ["@example.com", "@trusted.net", "*.example.org"]

[plugins.rooms]
priority = 20

[plugins.rooms.settings]
default_room = "Default Room - {{local_alias}}"

[plugins.rooms.settings.rooms."sip:engineering@example.com"]
name = "Engineering Room"
service_tag = "engineering-room"
"""
LAST = request(
    b"/policy/v1/registrations/a%40example.com?protocol=sip&auth_type=credentials",
    headers=b"Connection: close\r\n",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of a run: requests, seed, time limit in seconds, connections, configuration."""

    requests: int = 1_000_000
    seed: int = 1
    seconds: float = 1800.0
    connections: int = 32
    config: Path | None = None


@dataclass(slots=True)
class Result:
    """The findings of a run. Memory is in MiB, its growth in MiB per million requests."""

    tally: Tally
    elapsed: float
    memory: list[tuple[int, float]]
    open_files: tuple[int, int]

    @property
    def rate(self) -> float:
        """Return requests per second."""
        return self.tally.done / self.elapsed if self.elapsed else 0.0

    @property
    def growth(self) -> float:
        """Return the slope of resident memory in the second half of the run, by least squares."""
        points = self.memory[len(self.memory) // 2 :]
        if len(points) < 3:
            return 0.0
        middle = sum(done for done, _ in points) / len(points)
        level = sum(size for _, size in points) / len(points)
        spread = sum((done - middle) ** 2 for done, _ in points)
        lean = sum((done - middle) * (size - level) for done, size in points)
        return lean / spread * 1e6 if spread else 0.0


def run(plan: Plan, report: Callable[[str], None]) -> Result:
    """Start a server, send all cases, check that it still serves; pass progress to `report`."""
    grammar = Grammar(plan.seed)
    tally = Tally(grammar.token)
    log: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        config = plan.config
        if config is None:
            config = Path(folder, "config.toml")
            config.write_text(CONFIG, "utf-8")
        secret = {PASSWORD_ENV: PASSWORD}
        with live_server.running(config, environment=secret, log=log) as server:
            result = asyncio.run(_run(plan, grammar, tally, server, report))
    text = "".join(log).encode()
    if b"Traceback" in text or tally.token in text:
        tally.finding("traceback or input in the server's own log", seen=text[-300:])
    return result


async def _run(
    plan: Plan,
    grammar: Grammar,
    tally: Tally,
    target: live_server.Running,
    report: Callable[[str], None],
) -> Result:
    began = time.monotonic()
    files = target.open_files
    result = Result(tally, 0.0, [(0, target.memory)], (files, files))
    sender = Sender(grammar, target.port, plan.requests, began + plan.seconds, tally)
    watch = asyncio.create_task(_watch(result, target, plan.requests, report))
    try:
        await sender.send_all(plan.connections)
    finally:
        watch.cancel()
    result.elapsed = time.monotonic() - began
    result.memory.append((tally.done, target.memory))
    await _check_after_run(target, tally)
    result.open_files = (files, target.open_files)
    return result


async def _watch(
    result: Result, target: live_server.Running, requests: int, report: Callable[[str], None]
) -> None:
    began = time.monotonic()
    for tick in range(10**9):
        await asyncio.sleep(1.0)
        done, size = result.tally.done, target.memory
        result.memory.append((done, size))
        if tick % 10 == 9:
            rate = done / (time.monotonic() - began)
            found = sum(result.tally.findings.values())
            report(f"{done:>9,} of {requests:,}  {rate:,.0f}/s  {size:.0f} MiB  findings {found}")


async def _check_after_run(target: live_server.Running, tally: Tally) -> None:
    """Check that the server still answers."""
    try:
        async with asyncio.timeout(10.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
            writer.write(LAST)
            reply = await Replies(reader).next()
            writer.close()
    except (OSError, TimeoutError):
        reply = None
    if reply is None or reply.status != 200:
        tally.finding(
            "no good answer at the end", FuzzCase(LAST, "last"), reply.head if reply else b""
        )
