"""The pages Plugins and one plugin: outcomes, latency, circuit breakers, and the age of data."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from aiohttp import web

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
from pexpolicy_console.index.reader import MinuteCount, quantile
from pexpolicy_console.index.writer import DIFFERENCE, STEP
from pexpolicy_console.pages.page import Page, hides_names, render
from pexpolicy_console.server_client import PluginState

OUTCOMES = (DECIDED, ADJUSTED, ABSTAINED, FAILED, TIMED_OUT, INVALID, BUSY, SKIPPED)
"""In the order of tables."""
FAULTS = (FAILED, TIMED_OUT, INVALID, BUSY)
SLOW_MS = 100
"""p99 above which a plugin is called slow: a caller waits for several requests."""
HIDDEN_PROBLEM = "a problem that is not shown to viewers, as it may name people"


class Row(NamedTuple):
    """One plugin in the table."""

    state: PluginState
    decided: int
    abstained: int
    faults: int
    p50: float | None
    """Over the last hour, in milliseconds."""
    p99: float | None
    """The same."""
    hour_calls: int
    problems: list[str]

    @property
    def is_slow(self) -> bool:
        """Whether the p99 is so long that callers notice it."""
        return self.p99 is not None and self.p99 > SLOW_MS

    @property
    def slow(self) -> int:
        """The filter for the calls that are as slow, in milliseconds."""
        return int((self.p99 or 0.0) * 0.8)


class Hour:
    """What the audit has of the plugins in the last hour."""

    def __init__(self, counts: Iterable[MinuteCount]) -> None:
        self.differences = Counter[str]()
        """How many calls a shadow plugin would have answered differently, by plugin."""
        self.latencies = defaultdict[str, Counter[int]](Counter)
        """The count of each bucket of latency, by plugin."""
        for one in counts:
            if one.kind == DIFFERENCE:
                self.differences[one.name] += one.count
            elif one.kind == STEP:
                self.latencies[one.name][one.bucket] += one.count


async def _last_hour(request: web.Request) -> Hour:
    """Return the last hour; without calls where there is no index."""
    now = time.time()
    with suppress(IndexUnavailable):
        return Hour(await console_of(request).index.ask(lambda reader: reader.last_hour(now)))
    return Hour(())


async def plugins(request: web.Request) -> web.StreamResponse:
    """Show the state of each plugin and source."""
    status, problem = await console_of(request).server.status()
    hour = await _last_hour(request)
    hides = hides_names(request)
    found = [] if status is None else [_row(plugin, hour, hides) for plugin in status.plugins]
    sources = [] if status is None else status.sources
    names = (status and status.names) or {"unknown": (), "kept": {}}
    unknown = [f"{one['problem']}; in {', '.join(one['at'])}" for one in names["unknown"]]
    unknown += [f"{kind}: the last names are kept: {why}" for kind, why in names["kept"].items()]
    return render(
        request,
        "plugins.html",
        rows=found,
        sources=sources,
        unknown=unknown,
        problem=problem,
        shadows=hour.differences,
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
        differences=hour.differences.get(name),
        routes=f"{console.server.url}/plugins/{name}/" if "routes" in state.hooks else "",
        has_token=console.config.settings.admin_token is not None,
    )


def _row(state: PluginState, hour: Hour, hides: bool) -> Row:  # noqa: FBT001 - of one module
    latency = hour.latencies[state.name]
    calls = state.calls
    return Row(
        state,
        calls.get(DECIDED, 0) + calls.get(ADJUSTED, 0),
        calls.get(ABSTAINED, 0),
        sum(calls.get(one, 0) for one in FAULTS),
        quantile(latency, 0.5),
        quantile(latency, 0.99),
        latency.total(),
        _problems(state, hides=hides),
    )


def _problems(state: PluginState, *, hides: bool) -> list[str]:
    """Return what is wrong with a plugin now; ``hides`` what may name people."""
    texts = [] if state.problem is None else [state.problem]
    texts += [f"a background task ended: {failure}" for failure in state.failures]
    background = [*state.data.items(), *((f"job {name}", job) for name, job in state.jobs.items())]
    texts += [f"{name}: {one['problem']}" for name, one in background if one.get("problem")]
    found = [HIDDEN_PROBLEM] if hides and texts else texts
    if state.breaker_open:
        found.append("the circuit breaker is open: it is not asked")
    if state.has_stuck_calls:
        found.append("calls that were abandoned have not returned")
    return found


PAGES = (
    Page("/plugins", plugins, "Plugins"),
    Page("/plugins/{name}", plugin),
)
