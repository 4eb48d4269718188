"""The pages Plugins and one plugin: the way of calls, latency, breakers, errors, age of data."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiohttp import web

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.outcome import ABSTAINED, ADJUSTED, DECIDED, NOT_ANSWERED, SKIPPED
from pexpolicy_console.context import Page, PageError, Response, Visit
from pexpolicy_console.index.query import Query
from pexpolicy_console.index.reader import Hit, IndexReader, quantile
from pexpolicy_console.index.writer import CALL, STEP
from pexpolicy_console.pages.chart import SPANS, Span
from pexpolicy_console.server_client import Document

OUTCOMES = (DECIDED, ADJUSTED, ABSTAINED, *NOT_ANSWERED)
"""In the order of tables."""
FAULTS = tuple(one for one in NOT_ANSWERED if one != SKIPPED)
SLOW_MS = 100
"""p99 above which a plugin is called slow: a caller waits for several requests."""
FAILURES = 100
"""Failed steps of each outcome that are looked at, the newest."""
HIDDEN_PROBLEM = "a problem that is not shown to viewers, as it may name people"


@dataclass(slots=True)
class Tally:
    """What a plugin did in a period."""

    buckets: dict[str, Counter[int]] = field(default_factory=dict)
    """The count of each bucket of latency, by outcome."""
    differences: int = 0
    """How many calls it would have answered differently, as a shadow."""

    def of(self, *outcomes: str) -> int:
        """Return the number of steps with one of these outcomes."""
        return sum(self.buckets[one].total() for one in outcomes if one in self.buckets)

    def quantile(self, share: float, *outcomes: str) -> float | None:
        """Return milliseconds of steps with one of these outcomes, or of all that were asked."""
        wanted = outcomes or [one for one in self.buckets if one != SKIPPED]
        found = (self.buckets.get(one, Counter[int]()) for one in wanted)
        return quantile(sum(found, Counter[int]()), share)

    @property
    def asked(self) -> int:
        """How often it was asked."""
        return sum(map(self.of, self.buckets)) - self.of(SKIPPED)

    @property
    def failed(self) -> int:
        """How often it gave no usable answer."""
        return self.of(*FAULTS)

    @property
    def slow(self) -> int:
        """The filter for its slowest calls in milliseconds, if callers notice them, else 0."""
        p99 = self.quantile(0.99) or 0.0
        return int(p99 * 0.8) if p99 > SLOW_MS else 0


Counted = tuple[Counter[str], dict[tuple[str, str], Tally]]
"""Calls by endpoint, and what plugins did by endpoint and plugin, of all by an empty endpoint."""


class Station(NamedTuple):
    """A plugin in a chain: the shares are percent of the calls that reach it."""

    plugin: Document
    tally: Tally
    thickness: float
    """Percent of all calls."""
    decided: float
    failed: float
    width: int
    """By its median time, from 1 to 20."""


def tallies(minutes: Iterable[tuple[int, str, str, str, int, int]]) -> Counted:
    """Return what rows of ``IndexReader.minutes`` count."""
    calls, found = Counter[str](), dict[tuple[str, str], Tally]()
    for _, kind, name, outcome, bucket, count in minutes:
        if kind == CALL:
            calls[name] += count
            continue
        endpoint, _, plugin = name.partition("/")
        for key in ((endpoint, plugin), ("", plugin)):
            one = found.setdefault(key, Tally())
            if kind == STEP:
                one.buckets.setdefault(outcome, Counter())[bucket] += count
            else:
                one.differences += count
    return calls, found


def chains(
    plugins: Sequence[Document], calls: Mapping[str, int], found: Mapping[tuple[str, str], Tally]
) -> Iterator[tuple[str, int, list[Station], float]]:
    """Yield each endpoint, its calls, its plugins in order, and the percent left undecided."""
    slowest = max((one.quantile(0.5) or 0.0 for one in found.values()), default=0.0) or 1.0
    for endpoint in ENDPOINTS:
        total, stations, left = calls.get(endpoint, 0), list[Station](), 100.0
        for plugin in plugins:
            one = found.get((endpoint, plugin.name), Tally())
            if not total or endpoint not in plugin.hooks or plugin.mode != "decide":
                continue
            reached, share = one.asked + one.of(SKIPPED), (one.quantile(0.5) or 0.0) / slowest
            decided, failed = (100 * n / (reached or 1) for n in (one.of(DECIDED), one.failed))
            thickness, width = min(100 * reached / total, 100), 1 + round(19 * share**0.5)
            stations.append(Station(plugin, one, thickness, decided, failed, width))
            left = 100 * (reached - one.of(DECIDED)) / total
        if stations:
            yield endpoint, total, stations, max(left, 0.0)


def failures(reader: IndexReader, name: str) -> list[Hit]:
    """Return the lines of the last failures of a plugin in 14 days, the newest first."""
    queries = [Query(plugin=name, outcome=one, since="14d", requests="1") for one in FAULTS]
    found = [hit for query in queries for hit in reader.search(query, limit=FAILURES)]
    return sorted((hit for hit in found if hit.event), key=lambda hit: hit.at, reverse=True)


def errors_of(hits: Sequence[Hit], name: str) -> list[dict[str, Any]]:
    """Return the errors of a plugin with how often, first and last, the newest first."""
    found: dict[str, dict[str, Any]] = {}
    for hit in hits:
        for step in (hit.event or {}).get("steps") or ():
            if isinstance(step, dict) and step.get("plugin") == name:
                if (outcome := step.get("outcome")) not in FAULTS:
                    continue
                text, at = str(step.get("detail") or outcome), hit.at / 1000
                one = found.setdefault(text, {"text": text, "last": at, "count": 0, "hit": hit})
                one |= {"outcome": outcome, "first": at, "count": one["count"] + 1}
    return [*found.values()]


def by_minute(reader: IndexReader, name: str, now: float) -> list[tuple[int, int, int]]:
    """Return when each of the last sixty minutes began, and the answers and failures in it."""
    found, end = Counter[tuple[int, bool]](), int(now // 60) + 1
    for at, kind, step, outcome, _, count in reader.minutes(end - 60, end, each=True):
        if kind == STEP and step.partition("/")[2] == name and outcome != SKIPPED:
            found[at, outcome in FAULTS] += count
    return [(60 * at, found[at, False], found[at, True]) for at in range(end - 60, end)]


async def _counted(visit: Visit) -> tuple[Span, Counted]:
    """Return the period of the URL, and what is counted in it."""
    span, end = SPANS.get(visit.text("span"), SPANS["1h"]), int(time.time() // 60) + 1
    found = await visit.search(lambda index: tallies(index.minutes(end - span.length, end)))
    return span, found or (Counter(), {})


async def plugins(visit: Visit) -> Response:
    """Show the way of calls through the plugins, and the state of each plugin and source."""
    status = await visit.status()
    span, (calls, found) = await _counted(visit)
    states = [] if status is None else status.plugins
    names = (status and status.name_problems) or ()
    return visit.render(
        "plugins.html",
        span=span,
        spans=SPANS,
        chains=[*chains(states, calls, found)],
        rows=[(one, found.get(("", one.name), Tally()), _problems(visit, one)) for one in states],
        server=status,
        unknown=[f"{one['problem']}; in {', '.join(one['at'])}" for one in names],
    )


async def plugin(visit: Visit) -> Response:
    """Show one plugin."""
    console, name = visit.console, visit.request.match_info["name"]
    if (status := await visit.status()) is None:
        raise PageError("The server does not answer.", 503)
    state = next((one for one in status.plugins if one.name == name), None)
    if state is None:
        raise web.HTTPNotFound
    span, (_, found) = await _counted(visit)
    now = time.time()
    return visit.render(
        "plugin.html",
        plugin=state,
        tally=found.get(("", name), Tally()),
        problems=_problems(visit, state),
        span=span,
        spans=SPANS,
        outcomes=OUTCOMES,
        endpoints=[*ENDPOINTS],
        errors=errors_of(await visit.search(failures, name) or (), name),
        settings=console.config.settings,
        minutes=await visit.search(by_minute, name, now) or (),
        seconds=now,
    )


def _problems(visit: Visit, state: Document) -> list[str]:
    """Return what is wrong with a plugin now."""
    texts = [] if state.problem is None else [state.problem]
    texts += [f"a background task ended: {failure}" for failure in state.failures]
    background = [*state.data.items(), *((f"job {name}", job) for name, job in state.jobs.items())]
    texts += [f"{name}: {one['problem']}" for name, one in background if one.get("problem")]
    found = [HIDDEN_PROBLEM] if visit.hides_names and texts else texts
    if state.breaker_open:
        found.append("not asked: its circuit breaker is open")
    if state.has_stuck_calls:
        found.append("calls that were abandoned have not returned")
    return found


PAGES = (Page("/plugins", plugins, "Plugins"), Page("/plugins/{name}", plugin))
