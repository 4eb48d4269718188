"""The pages Plugins and one plugin: outcomes, latency, circuit breakers, and the age of data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
from pexpolicy_console.metrics_ring import BOUNDS, Minute, quantile
from pexpolicy_console.pages.page import Page, hides_names, render
from pexpolicy_console.plots import heat_map, stacked_bars
from pexpolicy_console.server_client import PluginState, ServerStatus, ServerUnavailable

OUTCOMES = (DECIDED, ADJUSTED, ABSTAINED, FAILED, TIMED_OUT, INVALID, BUSY, SKIPPED)
"""In the order of tables and plots."""
FAULTS = (FAILED, TIMED_OUT, INVALID, BUSY)
SLOW_S = 0.1
"""p99 above which a plugin is called slow: a caller waits for several requests."""
STALE_INTERVALS = 3
"""Intervals after which data that was not refreshed is stale."""


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
    """The same; since the server started where the console has seen no call yet."""
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


async def plugins(request: web.Request) -> web.StreamResponse:
    """Show the state of each plugin and source."""
    console = console_of(request)
    status: ServerStatus | None = None
    problem = ""
    try:
        status = await console.server.status()
    except ServerUnavailable as error:
        problem = str(error)
    minutes = console.metrics.minutes()
    hides = hides_names(request)
    found = [] if status is None else [_row(plugin, minutes, hides) for plugin in status.plugins]
    sources = [] if status is None else status.sources
    shadows = _shadow_differences(minutes)
    return render(
        request, "plugins.html", rows=found, sources=sources, problem=problem, shadows=shadows
    )


async def plugin(request: web.Request) -> web.StreamResponse:
    """Show one plugin."""
    console = console_of(request)
    name = request.match_info["name"]
    try:
        status = await console.server.status()
    except ServerUnavailable as error:
        return render(request, "error.html", 503, problem=str(error))
    state = next((one for one in status.plugins if one.name == name), None)
    if state is None:
        raise web.HTTPNotFound
    minutes = console.metrics.minutes()
    return render(
        request,
        "plugin.html",
        row=_row(state, minutes, hides_names(request)),
        outcomes=[(one, state.calls[one]) for one in OUTCOMES if state.calls.get(one)],
        legend=_legend(minutes, name),
        bars=_bars(minutes, name),
        heat=_heat(minutes, name),
        differences=_shadow_differences(minutes).get(name),
        routes=f"{console.server.url}/plugins/{name}/" if "routes" in state.hooks else "",
        has_token=console.config.settings.admin_token is not None,
    )


def _row(state: PluginState, minutes: Sequence[Minute], hides: bool) -> Row:  # noqa: FBT001 - of one module
    buckets = _latencies(minutes, state.name)
    total = [sum(column) for column in zip(*buckets, strict=True)]
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


def _latencies(minutes: Sequence[Minute], plugin: str) -> list[list[int]]:
    return [minute.buckets("pexpolicy_plugin_duration_seconds", plugin) for minute in minutes]


def _outcomes(minutes: Sequence[Minute], plugin: str) -> Mapping[str, list[int]]:
    by_minute = [minute.by("pexpolicy_plugin_calls_total", plugin) for minute in minutes]
    # Those without a call too, so that each outcome has its colour on all pages.
    return {name: [counts.get(name, 0) for counts in by_minute] for name in OUTCOMES}


def _legend(minutes: Sequence[Minute], plugin: str) -> list[tuple[int, str]]:
    """Return the number and the name of each outcome in the plot."""
    counts = _outcomes(minutes, plugin).items()
    return [(number, name) for number, (name, values) in enumerate(counts) if any(values)]


def _bars(minutes: Sequence[Minute], plugin: str) -> Markup:
    title = f"Calls of {plugin} a minute, by outcome, in the last hour"
    return stacked_bars(minutes, _outcomes(minutes, plugin), title)


def _heat(minutes: Sequence[Minute], plugin: str) -> Markup:
    title = f"Latency of {plugin} in the last hour"
    return heat_map(minutes, _latencies(minutes, plugin), title)


def _shadow_differences(minutes: Sequence[Minute]) -> Mapping[str, int]:
    """Return by plugin how many calls a shadow plugin would have answered differently."""
    found: dict[str, int] = {}
    for minute in minutes:
        for name, count in minute.by("pexpolicy_shadow_diff_total").items():
            found[name] = found.get(name, 0) + count
    return found


PAGES = (
    Page("/plugins", plugins, "Plugins"),
    Page("/plugins/{name}", plugin),
)
