"""The page Overview: is the server ready, what does it do, and what needs attention."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
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


def endpoint_rows(counts: Iterable[MinuteCount], now_minute: int) -> list[dict[str, Any]]:
    """Return a row for each endpoint that was called in the last hour.

    Durations are milliseconds; ``bars`` has minute and height in percent of each minute with calls,
    ``slow`` the filter for calls that are as slow as the slowest.
    """
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
        p99 = quantile(buckets, 0.99)
        rows.append(
            {
                "name": name,
                "actions": actions.most_common(),
                "per_minute": buckets.total() / (MINUTES - first),
                "last_minute": minutes[MINUTES - 2],
                "p50": quantile(buckets, 0.5),
                "p99": p99,
                "slow": int((p99 or 0.0) * 0.8),
                "bars": [(at, 100 * count / highest) for at, count in sorted(minutes.items())],
            }
        )
    return rows


def attention(status: ServerStatus, *, hides_names: bool = False) -> list[Notice]:
    """Return what an operator should look at, the most urgent first; without the texts of errors
    in the configuration if they must not name people.
    """
    found = [Notice(f"not ready: {reason}") for reason in status.not_ready_reasons]
    if not status.config.last_reload_successful:
        problems = "see Configuration" if hides_names else "; ".join(status.config.problems)
        found.append(Notice(f"the last reload was refused: {problems}", "/changes"))
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
    named: dict[str, list[str]] = {}
    for node in nodes:
        if node.age is not None and node.age > SILENT_S:
            named.setdefault("silent for an hour", []).append(node.node)
        elif not node.calls and node.last_refused:
            what = f"refused, never answered ({node.refused_because})"
            named.setdefault(what, []).append(node.node)
    return [Notice(f"{what}: {', '.join(names[:10])}", "/nodes") for what, names in named.items()]


async def overview(request: web.Request) -> web.StreamResponse:
    """Show the state of the server and the calls of the last hour."""
    console = console_of(request)
    status, problem = await console.server.status()
    problems = [problem] if problem else []
    rows: list[dict[str, Any]] = []
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
