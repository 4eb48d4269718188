"""The page Overview: is the server ready, what does it do, and what needs attention."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

from aiohttp import web

from pexpolicy_console.context import console_of
from pexpolicy_console.index.index import IndexUnavailable
from pexpolicy_console.index.reader import MINUTES, MinuteCount, quantile
from pexpolicy_console.index.writer import CALL
from pexpolicy_console.pages.nodes import SILENT_S
from pexpolicy_console.pages.page import Page, hides_names, render
from pexpolicy_console.server_client import NodeState, ServerStatus

EXPIRY_S = 14 * 86400
"""Time before the end of a certificate from which on it needs attention, as for the alert."""


class Notice(NamedTuple):
    """What an operator should look at, and the page that has more of it."""

    text: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """The calls of one endpoint in the last hour; durations are milliseconds."""

    name: str
    actions: Sequence[tuple[str, int]]
    per_minute: float
    last_minute: int
    p50: float | None
    p99: float | None
    bars: Sequence[tuple[int, float]]
    """Minute and height in percent, for each minute with calls."""

    @property
    def slow(self) -> int:
        """The filter for calls that are as slow as the slowest, in whole milliseconds."""
        return int((self.p99 or 0.0) * 0.8)


def endpoint_rows(counts: Iterable[MinuteCount], now_minute: int) -> list[EndpointRow]:
    """Return a row for each endpoint that was called."""
    calls = [one for one in counts if one.kind == CALL]
    # The mean of an audit that is younger than an hour is that of its minutes.
    first = min((one.at for one in calls), default=now_minute) - now_minute + MINUTES - 1
    rows = []
    for name in sorted({one.name for one in calls}):
        mine = [one for one in calls if one.name == name]
        buckets, actions, minutes = Counter[int](), Counter[str](), Counter[int]()
        for one in mine:
            buckets[one.bucket] += one.count
            actions[one.outcome] += one.count
            minutes[one.at - now_minute + MINUTES - 1] += one.count
        highest = max(minutes.values())
        rows.append(
            EndpointRow(
                name,
                actions.most_common(),
                buckets.total() / (MINUTES - first),
                minutes[MINUTES - 2],
                quantile(buckets, 0.5),
                quantile(buckets, 0.99),
                [(minute, 100 * count / highest) for minute, count in sorted(minutes.items())],
            )
        )
    return rows


def attention(status: ServerStatus, *, hides_names: bool = False) -> list[Notice]:
    """Return what an operator should look at, the most urgent first; without the texts of errors
    in the configuration if they must not name people.
    """
    found = [Notice(f"not ready: {reason}") for reason in status.not_ready_reasons]
    if not status.config.last_reload_successful:
        problems = "see Configuration" if hides_names else "; ".join(status.config.problems)
        found.append(Notice(f"the last reload was refused: {problems}", "/configuration"))
    audit = status.audit
    if audit.lost or (audit.status and audit.status != "healthy"):
        text = f"audit {audit.status}, {audit.lost} lines lost: {audit.problem or ''}"
        found.append(Notice(text, "/audit"))
    certificate = status.certificate
    if certificate is not None and certificate.not_after - time.time() < EXPIRY_S:
        found.append(Notice("the certificate ends within 14 days"))
    if certificate is not None and certificate.problem:
        found.append(Notice(f"the new certificate cannot be used: {certificate.problem}"))
    for plugin in status.plugins:
        url = f"/plugins/{quote(plugin.name, safe='')}"
        if plugin.breaker_open:
            found.append(Notice(f"{plugin.name}: its circuit breaker is open", url))
        if plugin.has_stuck_calls:
            found.append(Notice(f"{plugin.name}: calls do not return", url))
    return found + _nodes(status.nodes)


def _nodes(nodes: Sequence[NodeState]) -> list[Notice]:
    found = []
    silent = [n.node for n in nodes if n.age is not None and n.age > SILENT_S]
    refused = [n for n in nodes if not n.calls and n.last_refused]
    if silent:
        found.append(Notice(f"silent for an hour: {', '.join(silent[:10])}", "/nodes"))
    for reason in dict.fromkeys(n.refused_because for n in refused):
        named = ", ".join([n.node for n in refused if n.refused_because == reason][:10])
        found.append(Notice(f"refused, and never answered: {named} ({reason})", "/nodes"))
    return found


async def overview(request: web.Request) -> web.StreamResponse:
    """Show the state of the server and the calls of the last hour."""
    console = console_of(request)
    status, problem = await console.server.status()
    problems = [problem] if problem else []
    rows: list[EndpointRow] = []
    is_known, now = False, time.time()
    try:
        counts = await console.index.ask(lambda reader: reader.last_hour(now))
        rows, is_known = endpoint_rows(counts, int(now // 60)), True
    except IndexUnavailable as error:
        problems.append(str(error))
    return render(
        request,
        "overview.html",
        server=status,
        problems=problems,
        attention=[] if status is None else attention(status, hides_names=hides_names(request)),
        rows=rows,
        is_known=is_known,
        minutes=MINUTES,
        index=console.index.state,
    )


PAGES = (Page("/", overview, "Overview"),)
