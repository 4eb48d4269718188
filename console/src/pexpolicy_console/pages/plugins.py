"""The pages Plugins and one plugin: the way of calls, latency, breakers, errors, age of data."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from aiohttp import web

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.outcome import (
    ABSTAINED,
    ADJUSTED,
    BUSY,
    DECIDED,
    FAILED,
    INVALID,
    SKIPPED,
    TIMED_OUT,
)
from pexpolicy_console.context import console_of
from pexpolicy_console.index.index import IndexUnavailable
from pexpolicy_console.index.query import Query
from pexpolicy_console.index.reader import Hit, IndexReader, quantile
from pexpolicy_console.pages.page import Page, hides_names, render
from pexpolicy_console.server_client import PluginState

OUTCOMES = (DECIDED, ADJUSTED, ABSTAINED, FAILED, TIMED_OUT, INVALID, BUSY, SKIPPED)
"""In the order of tables."""
FAULTS = (FAILED, TIMED_OUT, INVALID, BUSY)
SPANS = {"1h": (60, "1 hour"), "24h": (1440, "24 hours"), "14d": (20_160, "14 days")}
"""Minutes, and words, of the periods to choose from."""
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


class Station(NamedTuple):
    """A plugin in a chain: the shares are percent of the calls that reach it."""

    plugin: PluginState
    tally: Tally
    thickness: float
    """Percent of all calls."""
    decided: float
    failed: float
    width: int
    """By its median time, from 1 to 20."""


def tallies(steps: Mapping[tuple[str, str, int], int]) -> dict[tuple[str, str], Tally]:
    """Return what each plugin did by endpoint and plugin, and of all by an empty endpoint."""
    found: dict[tuple[str, str], Tally] = {}
    for (name, outcome, bucket), count in steps.items():
        endpoint, _, plugin = name.partition("/")
        for key in ((endpoint, plugin), ("", plugin)):
            one = found.setdefault(key, Tally())
            if bucket < 0:
                one.differences += count
            else:
                one.buckets.setdefault(outcome, Counter())[bucket] += count
    return found


def chains(
    plugins: Sequence[PluginState],
    calls: Mapping[str, int],
    found: Mapping[tuple[str, str], Tally],
) -> Iterator[tuple[str, int, list[Station], float]]:
    """Yield each endpoint that was called, with its calls, its plugins in order, and the percent of
    calls that none of them decided.
    """
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


def failures(reader: IndexReader, name: str, since: str) -> list[Hit]:
    """Return the lines of the last failures of a plugin, the newest first."""
    queries = [Query(plugin=name, outcome=one, since=since) for one in FAULTS]
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


async def _steps(
    request: web.Request, span: str
) -> tuple[Counter[str], dict[tuple[str, str], Tally]]:
    """Return the calls of each endpoint in a period, and what the plugins did; nothing where there
    is no index.
    """
    now, minutes = time.time(), SPANS[span][0]
    with suppress(IndexUnavailable):
        calls, steps = await console_of(request).index.ask(lambda one: one.steps(now, minutes))
        return calls, tallies(steps)
    return Counter(), {}


def _span(request: web.Request) -> str:
    found = request.query.get("span", "")
    return found if found in SPANS else "1h"


async def plugins(request: web.Request) -> web.StreamResponse:
    """Show the way of calls through the plugins, and the state of each plugin and source."""
    status, problem = await console_of(request).server.status()
    span, hides = _span(request), hides_names(request)
    calls, found = await _steps(request, span)
    states = [] if status is None else status.plugins
    names = (status and status.names) or {"unknown": (), "kept": {}}
    unknown = [f"{one['problem']}; in {', '.join(one['at'])}" for one in names["unknown"]]
    unknown += [f"{kind}: the last names are kept: {why}" for kind, why in names["kept"].items()]
    return render(
        request,
        "plugins.html",
        span=span,
        spans=SPANS,
        chains=[*chains(states, calls, found)],
        rows=[
            (one, found.get(("", one.name), Tally()), _problems(one, hides=hides)) for one in states
        ],
        sources=[] if status is None else status.sources,
        problem=problem,
        unknown=unknown,
    )


async def plugin(request: web.Request) -> web.StreamResponse:
    """Show one plugin."""
    console = console_of(request)
    name = request.match_info["name"]
    status, problem = await console.server.status()
    if status is None:
        return render(request, "error.html", 503, problem=problem)
    state = next((one for one in status.plugins if one.name == name), None)
    if state is None:
        raise web.HTTPNotFound
    span, hits = _span(request), list[Hit]()
    _, found = await _steps(request, span)
    with suppress(IndexUnavailable):
        hits = await console.index.ask(partial(failures, name=name, since="14d"))
    return render(
        request,
        "plugin.html",
        plugin=state,
        tally=found.get(("", name), Tally()),
        problems=_problems(state, hides=hides_names(request)),
        span=span,
        spans=SPANS,
        outcomes=OUTCOMES,
        endpoints=[*ENDPOINTS],
        errors=errors_of(hits, name),
        table=console.config.settings.plugins.get(name),
        now=time.time(),
        routes=f"{console.server.url}/plugins/{name}/" if "routes" in state.hooks else "",
        has_token=console.config.settings.admin_token is not None,
    )


def _problems(state: PluginState, *, hides: bool) -> list[str]:
    """Return what is wrong with a plugin now; ``hides`` what may name people."""
    texts = [] if state.problem is None else [state.problem]
    texts += [f"a background task ended: {failure}" for failure in state.failures]
    background = [*state.data.items(), *((f"job {name}", job) for name, job in state.jobs.items())]
    texts += [f"{name}: {one['problem']}" for name, one in background if one.get("problem")]
    found = [HIDDEN_PROBLEM] if hides and texts else texts
    if state.breaker_open:
        found.append("not asked: its circuit breaker is open")
    if state.has_stuck_calls:
        found.append("calls that were abandoned have not returned")
    return found


PAGES = (
    Page("/plugins", plugins, "Plugins"),
    Page("/plugins/{name}", plugin),
)
