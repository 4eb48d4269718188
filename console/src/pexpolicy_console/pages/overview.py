"""The page Overview: is it normal, what needs attention, how many calls, and what is refused."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote

from pexpolicy_console.context import Page, Response, Visit
from pexpolicy_console.index.query import Query
from pexpolicy_console.index.reader import IndexReader, quantile
from pexpolicy_console.index.writer import MINUTE_MS
from pexpolicy_console.pages.changes import Change, changes_of, lines
from pexpolicy_console.pages.chart import DAY_MS, SPANS, bounds, chart, link, zone_of
from pexpolicy_console.pages.live import SILENT_S
from pexpolicy_console.server_client import Document

EXPIRY_S = 14 * 86400
"""Time before the end of a certificate from which on it needs attention, as for the alert."""
NOW_MINUTES = 5
"""Whole minutes that the figures are of."""
NORMAL_DAYS, MIN_DAYS = 14, 3
"""Days whose same hour is the normal range, and how many of them must be known."""
SLOW = 2
"""Times the normal, from which on answers need attention."""


class Notice(NamedTuple):
    """What an operator should look at, what it does to calls, and the page that has more of it."""

    text: str
    effect: str = ""
    url: str = ""
    page: str = ""


class Figure(NamedTuple):
    """A number, and the range in which it normally is at this hour; ``None`` is not known."""

    title: str
    short: str
    unit: str
    url: str
    value: float | None
    low: float | None
    high: float | None

    @property
    def is_out(self) -> bool:
        """Whether the value is out of its range on a side that needs attention."""
        if self.value is None or self.high is None or self.low is None:
            return False
        return self.value > self.high or (self.unit == "calls" and self.value < self.low)

    @property
    def end(self) -> float:
        """The end of its scale."""
        return max(self.value or 0, (self.high or 0) * 1.2) * 1.25 or 1


def read(reader: IndexReader, moments: Sequence[int], now: float) -> dict[str, Any]:
    """Return what the template uses of the index; the chart has columns between ``moments``."""
    first, at, span = reader.since(), int(now * 1000), (moments[0], moments[-1])
    lists = {
        kind: Counter(
            {name: sum(one.counts[place:]) for name, one in reader.tallies(kind, span)[0].items()}
        )
        for kind, place in (("reason", 1), ("location", 0), ("room", 0))
    }
    servers = reader.tallies("instance", (0, at))[0]
    marks, unknown = marks_of(changes_of(lines(reader)), at, servers)
    # Before the first line, and of columns to come.
    unknown += (moments[0], first or at), (next(one for one in moments if one > at), moments[-1])
    return {
        "since": first,
        "columns": reader.all_tallies(moments),
        "figures": _figures(reader, first, at),
        "lists": lists,
        "marks": [one for one in marks if 1000 * one.at >= moments[0]],
        "unknown": unknown,
        "servers": reader.tallies("instance", (at - 60 * MINUTE_MS, at + 1))[0],
        "last": [hit.at / 1000 for hit in reader.search(Query(event="decision"), limit=1)],
    }


def marks_of(
    changes: Sequence[Change], now: int, servers: Iterable[str]
) -> tuple[list[Change], list[tuple[int, int]]]:
    """Return the changes to mark, and the periods in which all servers were stopped."""
    marks, unknown = dict[tuple[int, str, str], Change](), list[tuple[int, int]]()
    running, since = {*servers, *(one.instance for one in changes)}, 0
    for one in reversed(changes):
        at = int(one.key)
        running = running - {one.instance} if one.kind == "end" else running | {one.instance}
        if running and since:
            unknown.append((since, at))
        since = 0 if running else since or at
        # Each worker has lines of its own.
        marks.setdefault((at // MINUTE_MS, one.kind, one.policy), one)
    return [*marks.values()], [*unknown, (since, now)] if since else unknown


def _figures(reader: IndexReader, first: int | None, now: int) -> list[Figure]:
    """Return calls a minute, refused ones in percent, and the p99 in milliseconds."""
    end, half = now // MINUTE_MS * MINUTE_MS, 30 * MINUTE_MS
    start = end - NOW_MINUTES * MINUTE_MS
    ago = [end - day * DAY_MS for day in range(1, NORMAL_DAYS + 1)]
    hours = [(at - half, at + half) for at in ago if first and first <= at - half]
    spans = [(start, end), *hours]
    calls = [reader.all_tallies(one)[0] for one in spans]
    rates = [one.total * MINUTE_MS / (b - a) for one, (a, b) in zip(calls, spans, strict=True)]
    refused = [100 * one.counts[1] / one.total if one.total else None for one in calls]
    slowest = [quantile(reader.latencies(*one), 0.99) for one in spans]
    slow = link(start, end, slower=str(int((slowest[0] or 0) * 0.8)))
    return [
        Figure("Calls a minute", "A minute", "calls", link(start, end), *_normal(rates)),
        Figure("Refused", "Refused", "%", link(start, end, result="refused"), *_normal(refused)),
        Figure("Slowest 1 in 100 (p99)", "p99", "ms", slow, *_normal(slowest)),
    ]


def _normal(values: Sequence[float | None]) -> tuple[float | None, float | None, float | None]:
    """Return the first value, and the middle 80 % of the others."""
    known = sorted(one for one in values[1:] if one is not None)
    if len(known) < MIN_DAYS:
        return values[0], None, None
    last = len(known) - 1
    return values[0], known[round(0.1 * last)], known[round(0.9 * last)]


def attention(status: Document, *, hides_names: bool) -> Iterator[Notice]:
    """Yield what is wrong with a server, the most urgent first; without the texts of errors in the
    configuration if they must not name people.
    """
    for reason in status.not_ready_reasons:
        yield Notice("The server is not ready.", reason, "/changes", "Changes")
    if not status.config.last_reload_successful:
        problems = "" if hides_names else "; ".join(status.config.problems)
        text = f"{problems} Calls are answered by the policy in force."
        yield Notice("The last change was refused.", text, "/changes", "Changes")
    audit, certificate = status.audit, status.certificate
    if audit.lost or (audit.status and audit.status != "healthy"):
        text = f"{audit.status}, {audit.lost} lines lost: {audit.problem or ''}"
        yield Notice("The audit is not complete.", text, "/audit", "Audit")
    if certificate is not None:
        if certificate.not_after - time.time() < EXPIRY_S:
            yield Notice("The certificate ends within 14 days.", "Then nodes get no answer.")
        if certificate.problem:
            yield Notice("The new certificate cannot be used.", certificate.problem)


def attention_to_parts(status: Document, figures: Sequence[Figure]) -> Iterator[Notice]:
    """Yield what is wrong with its answers, plugins and nodes."""
    for one in figures:
        if one.unit == "ms" and one.high and one.value and one.value > SLOW * one.high:
            text = f"p99 {one.value:.0f} ms, {one.value / one.high:.0f} times the normal."
            yield Notice("Answers are slow.", text, one.url, "Slow calls")
    for plugin in status.plugins:
        url = f"/plugins/{quote(plugin.name, safe='')}"
        if plugin.breaker_open:
            text = "since its circuit breaker opened. Calls go on without it."
            yield Notice(f"{plugin.name} is not asked", text, url, "Plugin")
        if plugin.has_stuck_calls:
            yield Notice(f"Calls of {plugin.name} do not return.", "", url, "Plugin")
    named: dict[str, list[str]] = {}
    for node in status.nodes:
        if node.age is not None and node.age > SILENT_S:
            named.setdefault("silent for an hour", []).append(node.node)
        elif not node.calls and node.last_refused:
            text = f"refused, never answered: {node.refused_because}"
            named.setdefault(text, []).append(node.node)
    for text, names in named.items():
        several = "s" if len(names) > 1 else ""
        yield Notice(f"Node{several} {', '.join(names[:10])}", text, "/nodes", "Nodes")


async def overview(visit: Visit) -> Response:
    """Show the state of the server, and the calls of the span that was chosen."""
    now, zone, status = time.time(), zone_of(visit), await visit.status()
    span = SPANS.get(visit.text("span"), SPANS["24h"])
    moments = bounds(span, now, zone)
    numbers = await visit.search(read, moments, now) or {}
    columns, notices = numbers.get("columns", []), list[Notice]()
    if status is not None:
        notices = [*attention(status, hides_names=visit.hides_names)]
        notices += attention_to_parts(status, numbers.get("figures", ()))
        if odd := ", ".join(visit.console.server.odd_servers):
            text = "silent, or refused the change that others have"
            notices.append(Notice(f"{odd}:", text, "/servers", "Servers"))
    return visit.render(
        "overview.html",
        server=status,
        attention=notices,
        numbers=numbers,
        charts=[
            chart(span, moments, columns, numbers["marks"], numbers["unknown"], zone, place)
            for place in (0, 1)
            if columns
        ],
        totals=[sum(one.counts[kind] for one in columns) for kind in range(3)],
        span=span,
        spans=SPANS.values(),
        period=partial(link, moments[0], moments[-1]),
        seconds=now,
    )


PAGES = (Page("/", overview, "Overview"),)
