"""The page Overview: is the server ready, what does it do, and what needs attention."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aiohttp import web

from pexpolicy_console.context import console_of
from pexpolicy_console.index.index import IndexUnavailable
from pexpolicy_console.index.reader import MinuteCount
from pexpolicy_console.index.segment import CALL, bucket_bound
from pexpolicy_console.metrics_ring import quantile
from pexpolicy_console.pages.nodes import SILENT_S
from pexpolicy_console.pages.page import Page, hides_names, render
from pexpolicy_console.server_client import ServerStatus, ServerUnavailable

MINUTES = 60
EXPIRY_S = 14 * 86400
"""Time before the end of a certificate from which on it needs attention, as for the alert."""


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


def endpoint_rows(counts: Iterable[MinuteCount], now_minute: int) -> list[EndpointRow]:
    """Return a row for each endpoint that was called."""
    calls = [one for one in counts if one.kind == CALL]
    rows = []
    for name in sorted({one.name for one in calls}):
        mine = [one for one in calls if one.name == name]
        buckets, actions, minutes = Counter[int](), Counter[str](), Counter[int]()
        for one in mine:
            buckets[one.bucket] += one.count
            actions[one.outcome] += one.count
            minutes[one.at - now_minute + MINUTES - 1] += one.count
        durations = [(bucket_bound(one) / 1000, buckets[one]) for one in sorted(buckets)]
        highest = max(minutes.values())
        rows.append(
            EndpointRow(
                name,
                actions.most_common(),
                buckets.total() / MINUTES,
                minutes[MINUTES - 2],
                quantile(durations, 0.5),
                quantile(durations, 0.99),
                [(minute, 100 * count / highest) for minute, count in sorted(minutes.items())],
            )
        )
    return rows


def attention(status: ServerStatus, *, hides_names: bool = False) -> list[str]:
    """Return what an operator should look at, the most urgent first; without the texts of errors
    in the configuration if they must not name people.
    """
    found = [f"not ready: {reason}" for reason in status.not_ready_reasons]
    if not status.config.last_reload_successful:
        problems = "see Configuration" if hides_names else "; ".join(status.config.problems)
        found.append(f"the last reload was refused: {problems}")
    audit = status.audit
    if audit.lost or (audit.status and audit.status != "healthy"):
        found.append(f"audit {audit.status}, {audit.lost} lines lost: {audit.problem or ''}")
    certificate = status.certificate
    if certificate is not None and certificate.not_after - time.time() < EXPIRY_S:
        found.append("the certificate ends within 14 days")
    if certificate is not None and certificate.problem:
        found.append(f"the new certificate cannot be used: {certificate.problem}")
    found += [f"{p.name}: its circuit breaker is open" for p in status.plugins if p.breaker_open]
    found += [f"{p.name}: calls do not return" for p in status.plugins if p.has_stuck_calls]
    silent = [n.node for n in status.nodes if n.age is not None and n.age > SILENT_S]
    refused = [n.node for n in status.nodes if not n.calls and n.last_refused]
    if silent:
        found.append(f"silent for an hour: {', '.join(silent[:10])}")
    if refused:
        found.append(f"refused, and never answered: {', '.join(refused[:10])}")
    return found


async def overview(request: web.Request) -> web.StreamResponse:
    """Show the state of the server and the calls of the last hour."""
    console = console_of(request)
    status: ServerStatus | None = None
    problems: list[str] = []
    rows: list[EndpointRow] = []
    now = time.time()
    try:
        status = await console.server.status()
    except ServerUnavailable as error:
        problems.append(str(error))
    try:
        since = (int(now // 60) - MINUTES + 1) * 60_000
        counts = await console.index.minutes(since, int(now * 1000))
        rows = endpoint_rows(counts, int(now // 60))
    except IndexUnavailable as error:
        problems.append(str(error))
    return render(
        request,
        "overview.html",
        server=status,
        problems=problems,
        attention=[] if status is None else attention(status, hides_names=hides_names(request)),
        rows=rows,
        minutes=MINUTES,
        index=console.index.state,
    )


PAGES = (Page("/", overview, "Overview"),)
