"""PostgreSQL frozen and killed under a load of calls whose places are in it."""

import asyncio
from collections import Counter
from pathlib import Path

from lab.live.server import BOARD, HARD, PLUGINS, PolicyServer
from lab.load import Load, load
from lab.report import Finding
from pexpolicy.testing import url_of
from tests.support import postgresql
from tests.support.limited import request_of
from tests.support.waiting import until

CONNECTIONS = 16
MOST_S = 0.5
"""Seconds of a call."""
TARGETS = [
    str(url_of(request_of(f"caller{number}@example.com", BOARD))) for number in range(HARD + 1)
]
"""One call more than there are places."""


async def outage(folder: Path, seconds: float, rounds: int) -> Finding:
    """Freeze and kill the database in turn: no call is late, and ``on_error`` decides meanwhile."""
    finding = Finding("PostgreSQL frozen and killed", f"{rounds} times {seconds:g} s each")
    with (
        postgresql.Server.running() as database,
        PolicyServer.running(PLUGINS.format(timeout=2.0), database, 2, 0.25) as server,
    ):
        async with load(server.port, CONNECTIONS, 0.02, TARGETS) as calls:
            for _ in range(rounds):
                await until(lambda: _reasons(calls, 50) == {"", f"limit of acme: {HARD} of {HARD}"})
                with database.frozen():
                    await _refuses(finding, calls, seconds, "frozen")
                await until(lambda: "" in _reasons(calls, 50))
                await asyncio.to_thread(database.kill)
                await _refuses(finding, calls, seconds, "killed")
                await asyncio.to_thread(database.start)
            await until(lambda: "" in _reasons(calls, 50))
    finding.notes.append(str(dict(Counter(map(_reason, [c.json for c in calls.answered])))))
    finding.expect_within(calls.longest, MOST_S, "a call")
    return finding.of(calls)


def _reason(reply: dict[str, str]) -> str:
    return reply.get("reason", "")


def _reasons(calls: Load, last: int) -> set[str]:
    """Return the reasons of the last replies, an empty one for calls that were admitted."""
    return {_reason(call.json) for call in calls.answered[-last:]} if calls.answered else set()


async def _refuses(finding: Finding, calls: Load, seconds: float, how: str) -> None:
    """Let calls come for a time; those that began in it are refused, as ``on_error`` says."""
    before = len(calls.calls) + CONNECTIONS
    await asyncio.sleep(seconds)
    await until(lambda: len(calls.calls) > before + CONNECTIONS)
    replies = [call.json for call in calls.calls[before:] if call.status == 200]
    admitted = sum(reply["action"] != "reject" for reply in replies)
    finding.expect(not admitted, f"{how}: {admitted} calls admitted without a place")
