"""The figures of each page of the console: where they are, and what they are by a count of lines.

These have no figure out of the audit: Try and Who gets what answer by the configuration. Live asks
the server, and loads the chart of Overview. The replay on Changes and the verification on Audit are
those of the command line.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from lab.console_index.page_text import Page, Row, at
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy_console.template_filters import age
from pexpolicy_console.template_filters import milliseconds as ms
from tests.support.counted_lines import (
    DAY,
    FAULTS,
    HOUR,
    MINUTE,
    WORDS,
    Count,
    Line,
    Tally,
    milliseconds,
    rank,
)

Figures = Iterator[tuple[str, Iterable[Row] | None]]
TITLES = {"1h": "1 hour", "24h": "24 hours", "14d": "14 days"}
JOINED = {"1h": 5, "24h": 4, "14d": 4}
"""Columns of the wide chart that are one of the narrow one."""
COUNTERS = ("result", "reason", "plugin", "location", "policy", "node", "instance", "endpoint")
OUTCOMES = ("decided", "adjusted", "abstained", *FAULTS)
ROWS, TOP = 100, 12
NAMES = (
    *("code", "kbd", "option", "pre", "thead", "h2", "bdi", ".choice", ".chip"),
    *(".axis", ".times", ".flags", "aside span@title", "@data-label"),
)
"""Elements of any page whose digits are no figures of calls, unless they are expected."""


@dataclass
class Audit:
    """What was counted of an audit, and what else pages have figures of."""

    count: Count
    plugins: Sequence[Mapping[str, Any]]
    """Their states, in their order."""
    of_server: frozenset[str]
    """All numbers that the server and the configuration have, in the forms of pages."""
    names: Mapping[str, Sequence[str]]
    """Of the rooms and rules, in the order of the configuration; a room has one alias."""
    damaged: int
    folder: Path
    """Of the data of the console."""


def overview(page: Page, audit: Audit, span: str) -> Figures:
    count, title = audit.count, TITLES[span]
    start, *_, end = moments = count.columns(span)
    totals, marks = count.between(start, end), count.marks(start)
    yield ".plot@aria-label", [(title, *totals)] * 2
    yield ".panel-foot > p", [(title, sum(totals), *totals[1:], at(count.first))]
    for place, name in enumerate(("wide", "narrow")):
        columns = _columns(count, moments[:: JOINED[span] if place else 1])
        yield from _chart(f".{name}", columns, count.now)
        if not place:
            yield "#as-table tbody tr", [(at(since), *parts) for since, _, parts in columns[::-1]]
    yield "#as-table ul li", [("…", at(one.at)) for one in marks]
    yield ".change", [at(one.at) for one in marks[:-6:-1]]
    for place, (kind, worst) in enumerate((("reason", 1), ("location", 0), ("room", 0)), 1):
        found = count.by(kind, start, end).items()
        rows = [(name.removeprefix("rule "), sum(one[worst:])) for name, one in found]
        selector = f".four > section:{place} li"
        yield selector, most(page, selector, rows, 5)
    yield from _now(page, count)
    answered = [one.at for one in count.lines if one.kind == "decision"]
    yield ".lead", [(age((count.now - max(answered)) / 1000), "…") if answered else "…"]
    yield "#this-server > div > dl:3 dd:3", [(len(count.lines), "…", audit.damaged or None)]


def most(page: Page, selector: str, rows: Iterable[tuple[str, int]], limit: int) -> list[Row]:
    """Return the names with the largest counts, equal ones in the order in which they are shown."""
    places = {text: place for place, text in enumerate(page.texts(selector))}
    known = sorted((-n, places.get(f"{name} {n:,}", limit), name) for name, n in rows if n)
    return [(name, -n) for n, _, name in known[:limit]]


def _columns(count: Count, moments: Sequence[int]) -> list[tuple[int, int, Sequence[int]]]:
    """Return the calls between moments; none where no server ran, or no line is so old."""
    coming = next(one for one in moments if one > count.now)
    gaps = [(moments[0], count.first), (coming, moments[-1]), *count.stopped()]
    found = []
    for start, end in pairwise(moments):
        parts: Sequence[int] = count.between(start, end)
        if not any(parts) and any(first <= start and end <= last for first, last in gaps):
            parts = ()
        found.append((start, end, parts))
    return found


def _chart(chart: str, columns: Sequence[tuple[int, int, Sequence[int]]], now: int) -> Figures:
    yield f"{chart} .hits a@data-counts", [tuple(parts) for *_, parts in columns]
    since, _, parts = [one for one in columns if one[1] <= now][-1]
    yield f"{chart} .readout", [(at(since), *parts)]
    accepted = max(parts[0] for *_, parts in columns if parts)
    others = max(sum(parts[1:]) for *_, parts in columns)
    high, low = map(_end_of_scale, (accepted, others))
    yield f"{chart} .scale text", [high, high // 2, 0, 0, low // 2, low]


def _end_of_scale(value: int) -> int:
    """Return the next number of one digit that is even, or ten times that."""
    factor = 1
    while 10 * factor < value:
        factor *= 10
    return next(one * factor for one in (2, 4, 6, 8, 10) if value <= one * factor)


def _now(page: Page, count: Count) -> Figures:
    """The three figures with what is normal at this hour, and the servers of the last hour."""
    end, half = count.now // MINUTE * MINUTE, HOUR // 2
    hours = [(one - half, one + half) for one in range(end - DAY, end - 15 * DAY, -DAY)]
    spans = [(end - 5 * MINUTE, end), *(one for one in hours if count.first <= one[0])]
    calls = [count.between(*span) for span in spans]
    answers = [(one.at, one.event["ms"]) for one in count.lines if one.kind == "decision"]
    rates = [sum(one) * MINUTE / (b - a) for one, (a, b) in zip(calls, spans, strict=True)]
    shares = [100 * one[1] / sum(one) if sum(one) else None for one in calls]
    slowest = [rank((ms for moment, ms in answers if a <= moment < b), 0.99) for a, b in spans]
    figures, normals = list[Row](), list[Row]()
    for values in (rates, shares, slowest):
        form = float if values is slowest else ms
        others = sorted(one for one in values[1:] if one is not None)
        ends = (others[round(share * (len(others) - 1))] for share in (0.1, 0.9) if others)
        figures.append(None if values[0] is None else form(values[0]))
        normals.append(tuple(map(form, ends)) if len(others) >= 3 else None)
    yield ".figure", figures
    yield ".normal", normals
    yield "#state > .head h1", [len(page.texts(".attention li")) or None]
    # A p99 that is out of its range: both are above, as they were interpolated.
    yield ".attention", None
    rows = []
    known = count.by("instance", count.now - HOUR, count.now + 1)
    for name, one in sorted(known.items(), key=lambda item: item[0].lower()):
        facts = f"{sum(one) / 60:.1f}", f"{100 * one[1] / sum(one):.1f}", one[2]
        rows.append((name, *facts, at(count.last("instance", name))))
    yield "[aria-label=Servers] tbody tr", rows if len(rows) > 1 else ()


def decisions(page: Page, audit: Audit, query: Mapping[str, str]) -> Figures:
    count, found, is_each = audit.count, audit.count.matching(query), "requests" in query
    calls = {one.call for one in found if one.call and one.result >= 0}
    since = milliseconds(query["since"]) if "since" in query else count.first
    of_calls = None if is_each or (found and not calls) else len(calls)
    yield ".lead", [(of_calls, len(found), at(since))]
    yield ".filters > summary", [len(query.keys() - {"requests"}) or None]
    groups: dict[object, list[Line]] = defaultdict(list)
    for line in found:
        groups[(None if is_each else line.call) or line].append(line)
    places = {line: place for place, line in enumerate(count.lines)}
    latest = sorted(groups.values(), key=lambda lines: -places[lines[-1]])[:ROWS]
    worst = [max(one, key=lambda line: line.result) for one in latest]
    yield "#decisions > tbody tr", [_row(one) for one in worst] or ["…"]
    total = len(found if is_each or not calls else calls)
    yield ".list-foot", [(len(worst), total if len(groups) > ROWS else None)]
    yield ".histogram a title", _histogram(count, query, found) if found else ()
    lists = 0
    for name in COUNTERS:
        values = Counter(one.values[name] for one in found if name in one.values)
        if len(values) > (name in ("instance", "policy")):
            lists += 1
            length, selector = 6 if name == "policy" else None, f"aside > ul:{lists} li"
            titles = {"default": "no plugin"} if name == "plugin" else {}
            rows = [(titles.get(value, value)[:length], times) for value, times in values.items()]
            yield selector, most(page, selector, rows, TOP)
    yield "aside > ul", ["…"] * lists
    yield "aside > p", [len(found)] if found else ()


def _row(line: Line) -> Row:
    duration = ms(line.event["ms"]) if "ms" in line.event else None
    return at(line.at), WORDS[line.result], "…", duration


def _histogram(count: Count, query: Mapping[str, str], found: Iterable[Line]) -> list[Row]:
    """Return the columns with calls of sixty: of a period in seconds, without one of the last day
    at most.
    """
    since, until = (milliseconds(query[k]) if k in query else None for k in ("since", "until"))
    end = -(-(until or count.now) // 1000)
    start = (since or max(count.first, 1000 * end - DAY)) // 1000
    end = max(end, start + 1)
    known: dict[object, tuple[int, int]] = {}
    for line in found:
        one = line if "requests" in query else line.call
        if line.result >= 0 and one is not None:
            known[one] = max(known.get(one, (one.at, 0)), (one.at, line.result))
    if not query.keys() - {"since", "until"}:
        known = {one: (one.at, one.result) for one in count.calls}
    columns = [[0, 0, 0] for _ in range(60)]
    for moment, result in known.values():
        if (since or 1000 * start) <= moment < 1000 * end:
            place = (moment // 1000 - start) * 60 // (end - start)
            columns[min(max(place, 0), 59)][result] += 1
    return [tuple(one) for one in columns if any(one)]


def decision(page: Page, audit: Audit, line: Line) -> Figures:
    event, duration = line.event, ms(line.event["ms"])
    yield ".story", [("…", at(line.at), "…", duration)]
    yield "#steps", [duration]
    asked = (one["ms"] for one in line.steps if one["outcome"] != "skipped")
    yield ".strip > li > div:2", [ms(one) for one in asked]
    yield "[aria-label=Answer] dd:1", [event["status"]]
    yield "main details > summary", [len(event["request"]), None]
    same = [one for one in audit.count.lines if one.call is line.call is not None]
    yield ".same-call .n", [f"{one.at - line.at:+,d}" for one in same]
    for names in ("dd", "h1", ".strip", ".same-call", ".step-detail", ".banner", ".small-text"):
        yield names, None


def calls(page: Page, audit: Audit, by: str, query: Mapping[str, str]) -> Figures:
    found = counted_calls(audit.count, by, query)
    _, refused, failed = totals = [sum(one[3][result] for one in found) for result in range(3)]
    yield "h1", [sum(totals)]
    yield ".lead", [(refused, failed, at(audit.count.first))]
    is_each, is_named = "each" in query, by != "all"
    rows = [
        (at(start) if is_each else None, value if is_named else None, *counts, sum(counts))
        for start, _, value, counts in found
    ]
    yield ".numbers > tbody tr", rows or [None]


def calls_csv(page: Page, audit: Audit, by: str, query: Mapping[str, str]) -> Figures:
    def time(moment: int) -> str:
        return datetime.fromtimestamp(moment / 1000, audit.count.zone).isoformat()

    rows: list[tuple[object, ...]] = [("from", "until", by, *WORDS[:3], "total")]
    for start, end, value, counts in counted_calls(audit.count, by, query):
        rows.append((time(start), time(end), value, *counts, sum(counts)))
    yield "li", [",".join(map(str, row)) for row in rows]


def counted_calls(
    count: Count, by: str, query: Mapping[str, str]
) -> list[tuple[int, int, str, list[int]]]:
    """Return the calls of each value in a span, or in each hour or day of it, the most first."""
    start, *_, end = count.columns(query.get("span", "14d"))
    given = {"since": start, "until": min(end, count.now // 1000 * 1000 + 1000)}
    start, end = (milliseconds(query[k]) if k in query else one for k, one in given.items())
    each, inner = query.get("each"), list[int]()
    if each:
        start = min(max(start, count.first), end - 1)
        hours = range(start // HOUR * HOUR, end, HOUR)
        inner = [one for one in (hours if each == "hour" else count.days(60)) if start < one < end]
    return [
        (since, until, value, counts)
        for since, until in pairwise((start, *inner, end))
        for value, counts in sorted(
            count.by(by, since, until).items(), key=lambda one: (-sum(one[1]), one[0])
        )
    ]


def hits(page: Page, audit: Audit, kind: str, query: Mapping[str, str]) -> Figures:
    """The calls of each room of the configuration, or the hits of each rule."""
    count, days, listed = audit.count, int(query.get("days", "14")), audit.names[kind]
    start, *_, end = count.days(days)
    known = {name: sum(one) for name, one in count.by(kind, start, end).items()}
    rows = []
    for number, name in enumerate(listed, 1):
        times = known.get(name, 0)
        last = at(count.last(kind, name)) if times else f"not in {days} days"
        order = (-times, page.place("tbody tr", name)) if "hits" in query.values() else (number,)
        rows.append((order, number if kind == "rule" else "…", name, "…", times, last, "…"))
    called, show = [row for row in rows if row[4]], query.get("show")
    unhit = [row for row in rows if not row[4]]
    shown = sorted({"hits": called, "unhit": unhit}.get(show or "", rows))
    yield "tbody tr", [row[1:] for row in shown] or [None]
    total = len(listed)
    yield ".lead", [total] * (kind == "rule")
    yield "nav[aria-label=Rules]", [(total, total, days, len(unhit))] * (kind == "rule")
    yield "caption", [total] * (kind == "room")
    yield "main > .quiet", [at(count.first)]


def plugins(page: Page, audit: Audit, span: str) -> Figures:
    count, listed = audit.count, audit.plugins
    start, end = count.span_of_steps(span)
    yield ".lead", [len(listed)]
    heads, stations = list[Row](), list[Row]()
    for endpoint in ENDPOINTS:
        decisions = [one for one in count.lines if one.kind == "decision" and start <= one.at < end]
        if total := sum(one.event["endpoint"] == endpoint for one in decisions):
            heads.append((endpoint, total, TITLES[span]))
            stations += _stations(audit, span, endpoint, total)
    yield ".chain > h2", heads
    yield ".flow > li", stations
    rows = list[Row]()
    for plugin in listed:
        one = count.tally(span, plugin["name"])
        decided, passed = one.of("decided", "adjusted"), one.of("abstained")
        times = one.asked, decided, passed, one.failed, one.rank(0.5), one.rank(0.99)
        failing = str(round(100 * one.failed / one.asked)) if one.failed * 20 > one.asked else None
        state = failing or frozenset((None, _slow(one)))
        rows.append((state, one.differences or None, times))
    yield "[aria-label=Plugins] tbody tr", rows


def _stations(audit: Audit, span: str, endpoint: str, total: int) -> Iterator[Row]:
    """Yield the figures of each plugin of a chain, and of its end."""

    def percent(part: float, whole: float) -> Row:
        share = 100 * part / whole
        return ("under 1" if share < 1 else str(round(share))) if share else None

    left = total
    for plugin in audit.plugins:
        if plugin["mode"] == "decide":
            one = audit.count.tally(span, plugin["name"], endpoint)
            decided, reached = one.of("decided"), one.asked + one.of("skipped")
            left, share = reached - decided, None
            if one.asked:
                share = percent(decided, reached), percent(one.failed, reached), one.rank(0.5)
            yield plugin["name"], share, frozenset((None, ("p99", one.rank(0.99))))
    yield percent(left, total) or "0"


def _slow(one: Tally) -> Row:
    return "1 answer in 100", 0.8 * (one.rank(0.99) or 0.0)


def plugin(page: Page, audit: Audit, span: str, name: str) -> Figures:
    count, one, title = audit.count, audit.count.tally(span, name), TITLES[span]
    asked = one.asked, title, one.of("decided", "adjusted")
    yield ".lead", [frozenset((asked, _slow(one))) if one.asked else title]
    rows: list[Row] = []
    for outcome in OUTCOMES:
        shares = () if outcome == "skipped" else (0.5, 0.99)
        if total := one.of(outcome):
            rows.append((total, *(one.rank(share, outcome) for share in shares)))
    table = ".stack > section > table:1 tbody tr"
    seen: dict[str, list[int]] = defaultdict(list)
    for line, step in count.steps(name, count.now - 14 * DAY, count.now):
        if step["outcome"] in FAULTS and step["outcome"] != "skipped":
            seen[step["detail"]].append(line.at)
    errors = [(text, len(times), at(times[0]), at(times[-1])) for text, times in seen.items()]
    errors.sort(key=lambda one: (-seen[one[0]][-1], page.place(table, one[0])))
    yield table, [*(rows or [title]), *errors]
    yield ".banner", [(last, text) for text, _, _, last in errors[:1]]
    minutes: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for line, step in count.steps(name, (count.now // MINUTE - 59) * MINUTE, count.now + 1):
        if step["outcome"] != "skipped":
            minutes[line.at // MINUTE * MINUTE][step["outcome"] in FAULTS] += 1
    known = sorted(minutes.items())
    sums = (sum(parts[place] for _, parts in known) for place in (0, 1))
    highest = max((sum(parts) + sum(parts) % 2 for _, parts in known), default=2)
    yield ".plot@aria-label", [tuple(sums)] if known else ()
    yield ".plot title", [tuple(parts) for _, parts in known]
    yield ".figure-table tbody tr", [(at(moment), *parts) for moment, parts in known[::-1]]
    yield ".scale text", [highest, highest // 2, 0] if known else ()
    yield "dd.trouble", [one.differences] * bool(one.differences)


def changes(page: Page, audit: Audit, until: int | None) -> Figures:
    """The changes, and the calls before and after one of them: the last one until a moment."""
    count, known = audit.count, [*reversed(audit.count.changes)]
    refused = sum(one.change == "refused" for one in known)
    yield ".lead", [(len(known), refused or None)]
    rows = [(at(one.at), "…", one.event["policy_hash"][:6], "…") for one in known]
    yield ".changes > ol > li", rows
    real = [one for one in known if one.change != "reload" or one.event["changes"]]
    chosen = [one for one in known if one.at <= until] if until else real
    yield "#change h2 small", [(at(one.at), "…") for one in chosen[:1]]
    for names in ("#change a", "#change ul", "#change p.trouble", "#replay > p"):
        yield names, None
    length = min(DAY, count.now - chosen[0].at) if chosen else 0
    if length > MINUTE:
        moments = [chosen[0].at + side * length for side in (-1, 0, 1)]
        sides = [count.between(*pair) for pair in pairwise(moments)]
        yield "#change thead tr", [(age(length / 1000),) * 2]
        shares = [f"{100 * one[1] / sum(one):.1f}" if sum(one) else None for one in sides]
        of_refused = tuple((one[1], share) for one, share in zip(sides, shares, strict=True))
        yield "#change tbody tr", [(*map(sum, sides),), of_refused, (*(one[2] for one in sides),)]


def meetings(page: Page, audit: Audit) -> Figures:
    """The bookings and the callers that were refused today, in UTC."""
    today = audit.count.now // DAY * DAY
    lines = [one for one in audit.count.lines if today <= one.at < today + DAY]
    bookings = [one for one in reversed(lines) if one.kind == "change"]
    yield "section tbody tr", [(at(one.at), "m1", one.event["status"]) for one in bookings][:20]
    refused = [one for one in lines if one.values.get("plugin") == "meetings"]
    reasons = Counter(one.values["reason"] for one in refused if "reason" in one.values)
    yield ".bars li", most(page, ".bars li", reasons.items(), 8)


def blocked(page: Page, audit: Audit, caller: str) -> Figures:
    """The requests of a day that the block of a caller would have rejected."""
    count = audit.count
    lines = [one for one in count.matching({"caller": caller}) if one.at >= count.now - DAY]
    results = Counter(one.result for one in lines)
    yield ".columns > section:1 p", [(results[0] or None, "24 hours", results[1] + results[2])]


def servers(page: Page, audit: Audit) -> Figures:
    rows: list[Row] = []
    for name, one in sorted({one.server: one for one in audit.count.changes}.items()):
        policy = "stopped" if one.change == "end" else one.event["policy_hash"][:6]
        rows.append((name, "…", policy, at(one.at)))
    yield ".timeline tbody tr", rows


def access_log(page: Page, audit: Audit) -> Figures:
    lines = (audit.folder / "actions.jsonl").read_text().splitlines()
    times = [at(milliseconds(json.loads(line)["timestamp"])) for line in reversed(lines)]
    yield "[aria-label=Access log] caption", [len(times)]
    yield "[aria-label=Access log] tbody tr", [(one, "…") for one in times]
