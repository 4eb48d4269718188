"""The pages Plugins and one plugin: outcomes, latency, circuit breakers, and the age of data."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from aiohttp import web
from markupsafe import Markup

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
from pexpolicy_console.index.reader import MinuteCount
from pexpolicy_console.index.writer import DIFFERENCE, STEP, bucket_bound
from pexpolicy_console.pages.page import Page, hides_names, render
from pexpolicy_console.plots import BOUNDS, MINUTES, heat_map, quantile, stacked_bars
from pexpolicy_console.server_client import PluginState

OUTCOMES = (DECIDED, ADJUSTED, ABSTAINED, FAILED, TIMED_OUT, INVALID, BUSY, SKIPPED)
"""In the order of tables and plots."""
FAULTS = (FAILED, TIMED_OUT, INVALID, BUSY)
SLOW_S = 0.1
"""p99 above which a plugin is called slow: a caller waits for several requests."""


HIDDEN_PROBLEM = "a problem that is not shown to viewers, as it may name people"


class Row(NamedTuple):
    """One plugin in the table."""

    state: PluginState
    decided: int
    abstained: int
    faults: int
    p50: float | None
    """Over the last hour, in seconds."""
    p99: float | None
    """The same; since the server started where the audit has no call of that hour."""
    hour_calls: int
    problems: list[str]

    @property
    def is_slow(self) -> bool:
        """Whether the p99 is so long that callers notice it."""
        return self.p99 is not None and self.p99 > SLOW_S

    @property
    def slow(self) -> float:
        """The lower bound of the bucket of the p99, in milliseconds."""
        return 1000 * max((bound for bound in BOUNDS if bound < (self.p99 or 0.0)), default=0.0)


class Hour:
    """What the audit has of the plugins in the last hour, by minute."""

    def __init__(self, counts: Iterable[MinuteCount], now: float) -> None:
        first = int(now // 60) - MINUTES + 1
        self.starts = [60.0 * (first + minute) for minute in range(MINUTES)]
        self.differences = Counter[str]()
        """How many calls a shadow plugin would have answered differently, by plugin."""
        self._outcomes: dict[str, dict[str, list[int]]] = {}
        self._latencies: dict[str, list[list[int]]] = {}
        for one in counts:
            at = one.at - first
            if one.kind == DIFFERENCE:
                self.differences[one.name] += one.count
            elif one.kind == STEP and 0 <= at < MINUTES:
                self.outcomes(one.name).setdefault(one.outcome, [0] * MINUTES)[at] += one.count
                # A duration is below the bound of its bucket.
                bucket = bisect_left(BOUNDS, bucket_bound(one.bucket) / 1e6)
                self.latencies(one.name)[at][bucket] += one.count

    def outcomes(self, plugin: str) -> dict[str, list[int]]:
        """Return the counts of the minutes by outcome; those without a call too, so that each has
        its colour on all pages.
        """
        return self._outcomes.setdefault(plugin, {name: [0] * MINUTES for name in OUTCOMES})

    def latencies(self, plugin: str) -> list[list[int]]:
        """Return the count of each bucket of latency for each minute."""
        return self._latencies.setdefault(plugin, [[0] * len(BOUNDS) for _ in range(MINUTES)])

    def legend(self, plugin: str) -> list[tuple[int, str]]:
        """Return the number and the name of each outcome in the plot."""
        counts = enumerate(self.outcomes(plugin).items())
        return [(number, name) for number, (name, values) in counts if any(values)]

    def bars(self, plugin: str) -> Markup:
        """Return the plot of the calls by outcome."""
        title = f"Calls of {plugin} a minute, by outcome, in the last hour"
        return stacked_bars(self.starts, self.outcomes(plugin), title)

    def heat(self, plugin: str) -> Markup:
        """Return the plot of the latencies."""
        title = f"Latency of {plugin} in the last hour"
        return heat_map(self.starts, self.latencies(plugin), title)


async def _last_hour(request: web.Request) -> Hour:
    """Return the last hour; without calls where there is no index."""
    now, counts = time.time(), list[MinuteCount]()
    with suppress(IndexUnavailable):
        since = now - 60 * MINUTES
        counts = await console_of(request).index.ask(
            lambda reader: reader.minutes(int(since * 1000), int(now * 1000))
        )
    return Hour(counts, now)


async def plugins(request: web.Request) -> web.StreamResponse:
    """Show the state of each plugin and source."""
    status, problem = await console_of(request).server.status()
    hour = await _last_hour(request)
    hides = hides_names(request)
    found = [] if status is None else [_row(plugin, hour, hides) for plugin in status.plugins]
    sources = [] if status is None else status.sources
    shadows = hour.differences
    return render(
        request, "plugins.html", rows=found, sources=sources, problem=problem, shadows=shadows
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
    hour = await _last_hour(request)
    return render(
        request,
        "plugin.html",
        row=_row(state, hour, hides_names(request)),
        outcomes=[(one, state.calls[one]) for one in OUTCOMES if state.calls.get(one)],
        legend=hour.legend(name),
        bars=hour.bars(name),
        heat=hour.heat(name),
        differences=hour.differences.get(name),
        routes=f"{console.server.url}/plugins/{name}/" if "routes" in state.hooks else "",
        has_token=console.config.settings.admin_token is not None,
    )


def _row(state: PluginState, hour: Hour, hides: bool) -> Row:  # noqa: FBT001 - of one module
    total = [sum(column) for column in zip(*hour.latencies(state.name), strict=True)]
    by_bound = list(zip(BOUNDS, total, strict=True))
    calls = state.calls
    return Row(
        state,
        calls.get(DECIDED, 0) + calls.get(ADJUSTED, 0),
        calls.get(ABSTAINED, 0),
        sum(calls.get(one, 0) for one in FAULTS),
        quantile(by_bound, 0.5),
        quantile(by_bound, 0.99) if sum(total) else _p99_since_start(state),
        sum(total),
        _problems(state, hides=hides),
    )


def _p99_since_start(state: PluginState) -> float | None:
    if state.latency is None:
        return None
    bound = state.latency.get("p99")
    return math.inf if bound is None else bound


def _problems(state: PluginState, *, hides: bool) -> list[str]:
    """Return what is wrong with a plugin now; ``hides`` what may name people."""
    known = []
    if state.breaker_open:
        known.append("the circuit breaker is open: it is not asked")
    if state.has_stuck_calls:
        known.append("calls that were abandoned have not returned")
    texts = _texts_of_problems(state)
    return [*([HIDDEN_PROBLEM] if hides and texts else texts), *known]


def _texts_of_problems(state: PluginState) -> list[str]:
    found = [] if state.problem is None else [state.problem]
    found += [f"a background task ended: {failure}" for failure in state.failures]
    for name, data in state.data.items():
        if data.get("problem"):
            found.append(f"{name}: {data['problem']}")
    for name, job in state.jobs.items():
        if job.get("problem"):
            found.append(f"job {name}: {job['problem']}")
    return found


PAGES = (
    Page("/plugins", plugins, "Plugins"),
    Page("/plugins/{name}", plugin),
)
