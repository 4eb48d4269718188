"""The counters of calls. They are on the path of each call: a look-up of a cell, and an addition.

Nothing is formatted, allocated or locked here; a scrape interprets the numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from pexpolicy.access.refusals import REASONS, UNAUTHORISED, WRONG_TOKEN
from pexpolicy.chain.bound_hook import QUICK, BoundHook
from pexpolicy.chain.observers import OBSERVER_OUTCOMES
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.outcome import (
    ABSTAINED,
    ANSWERED,
    BUSY,
    DECIDED,
    DEFAULT,
    FAILED,
    INVALID,
    SKIPPED,
    TIMED_OUT,
    Outcome,
)
from pexpolicy.observability import metrics
from pexpolicy.observability.metrics import (
    BUCKETS,
    CALL_BOUNDS,
    LEFT_BOUNDS,
    NANO,
    MetricDefinition,
)
from pexpolicy.observability.shared_memory import Labels, WorkerCounters

STEP_OUTCOMES = (DECIDED, ABSTAINED, FAILED, TIMED_OUT, INVALID, BUSY, SKIPPED)
QUICK_OUTCOMES = (ABSTAINED, DECIDED)
"""Outcomes of quick answers with cells from the start; those of adjusters get theirs later."""
NOT_ANSWERED = (FAILED, TIMED_OUT, INVALID, BUSY, SKIPPED)
"""Outcomes without a usable answer."""
INTERNAL = "internal"
"""The cause of a fallback by a fault of the server itself."""
UNRECORDED = "audit"
"""The cause of a fallback because the audit could not be written."""
CALL_OUTCOMES = ("continue", "reject", "redirect", "default", "default_reject")
"""Actions of replies; the last two are those without a decision of a plugin."""
_QUICK_MS = QUICK / 1000
_BY_DEFAULT = {"continue": "default", "reject": "default_reject"}


class _CounterIndex(dict[str, int]):
    """The cell of each value of the last label; unknown values are allocated on first use."""

    def __init__(
        self,
        counters: WorkerCounters,
        family: MetricDefinition,
        labels: Labels,
        known: Iterable[str],
    ) -> None:
        super().__init__()
        self._counters, self._family, self._labels = counters, family, labels
        for value in known:
            self[value] = self[value]

    def __missing__(self, value: str) -> int:
        cell = self[value] = self._counters.allocate(self._family, (*self._labels, value))
        return cell


class _EndpointCells:
    __slots__ = ("causes", "duration", "outcomes")

    def __init__(self, counters: WorkerCounters, endpoint: str) -> None:
        self.outcomes = _CounterIndex(counters, metrics.REQUESTS, (endpoint,), CALL_OUTCOMES)
        self.causes = _CounterIndex(
            counters, metrics.FALLBACK, (endpoint,), (*NOT_ANSWERED, INTERNAL, UNRECORDED)
        )
        self.duration = counters.allocate(metrics.DURATION, (endpoint,))


class _PluginCells:
    __slots__ = ("duration", "outcomes", "quick")

    def __init__(self, counters: WorkerCounters, plugin: str) -> None:
        self.outcomes = _CounterIndex(counters, metrics.PLUGIN_CALLS, (plugin,), STEP_OUTCOMES)
        self.duration = counters.allocate(metrics.PLUGIN_DURATION, (plugin,))
        self.quick = _CounterIndex(counters, metrics.PLUGIN_QUICK, (plugin,), QUICK_OUTCOMES)


class CallCounters:
    """The counters of one worker."""

    def __init__(self, counters: WorkerCounters) -> None:
        self._counters = counters
        self._cells = counters.cells
        self._endpoints = {name: _EndpointCells(counters, name) for name in ENDPOINTS}
        self._plugins: dict[str, _PluginCells] = {}
        self._remaining = counters.allocate(metrics.REMAINING)
        self._records = counters.allocate(metrics.AUDIT_RECORDS)
        self._reasons = _CounterIndex(counters, metrics.REFUSED, (), REASONS)
        self._unauthorised = counters.allocate(metrics.AUTH_FAILURES)
        self._differing = _CounterIndex(counters, metrics.SHADOW_DIFF, (), ())
        self._observers: dict[str, _CounterIndex] = {}
        self._budget = 0.0

    def allocate_for_policy(
        self,
        links: Iterable[BoundHook],
        shadows: Iterable[str],
        budget: float,
        observers: Iterable[str] = (),
    ) -> None:
        """Allocate the cells of the plugins of a policy; ``budget`` of a call in seconds."""
        for link in links:
            plugin = self._plugin(link.plugin)
            for steps in (link.abstained_steps, link.decided_steps):
                # The metric of all answers has a series for each of the quick ones.
                _ = plugin.outcomes[steps.outcome]
                steps.bind_counters(self._cells, plugin.quick[steps.outcome] + BUCKETS)
        for shadow in shadows:
            self._differing[shadow] = self._differing[shadow]
        for observer in observers:
            if observer not in self._observers:
                self._observers[observer] = _CounterIndex(
                    self._counters, metrics.OBSERVER_CALLS, (observer,), OBSERVER_OUTCOMES
                )
        self._budget = budget

    def answered(self, outcome: Outcome, action: str, seconds: float) -> None:
        """Count one call. ``action`` is that of its reply."""
        cells = self._cells
        endpoint = self._endpoints[outcome.endpoint]
        if outcome.decided_by == DEFAULT:
            action = _BY_DEFAULT.get(action, action)
        cells[endpoint.outcomes[action]] += 1
        left = self._budget - seconds if seconds < self._budget else 0.0
        # ``_observe`` inlined, as it would be called twice for each call.
        first = endpoint.duration
        cells[first] += int(seconds * NANO)
        cells[first + BUCKETS + bisect_left(CALL_BOUNDS, seconds)] += 1
        first = self._remaining
        cells[first] += int(left * NANO)
        cells[first + BUCKETS + bisect_left(LEFT_BOUNDS, left)] += 1
        if outcome.has_slow_or_failed_steps:
            cause = self._steps(outcome)
            if cause:
                cells[endpoint.causes[cause]] += 1

    def _plugin(self, name: str) -> _PluginCells:
        cells = self._plugins.get(name)
        if cells is None:
            cells = self._plugins[name] = _PluginCells(self._counters, name)
        return cells

    def _steps(self, outcome: Outcome) -> str:
        """Count each step except quick ones, which ``StepCounter`` has counted.

        Return the outcome of the first plugin without a usable answer, or an empty text.
        """
        cells = self._cells
        cause = ""
        for step in outcome.steps:
            result, ms = step.outcome, step.ms
            if ms < _QUICK_MS and result in ANSWERED:
                continue
            plugin = self._plugin(step.plugin)
            cells[plugin.outcomes[result]] += 1
            if result != SKIPPED:
                _observe(cells, plugin.duration, CALL_BOUNDS, ms / 1000)
            if not cause and result in NOT_ANSWERED:
                cause = result
        return cause

    def count_fallback(self, endpoint: str, cause: str) -> None:
        """Count a call with a fallback that no plugin caused."""
        self._cells[self._endpoints[endpoint].causes[cause]] += 1

    def refused(self, reason: str) -> None:
        """Count a request that was refused before any plugin was asked."""
        self._cells[self._reasons[reason]] += 1
        if reason in (UNAUTHORISED, WRONG_TOKEN):
            self._cells[self._unauthorised] += 1

    def recorded(self) -> None:
        """Count an audit record other than that of a call."""
        self._cells[self._records] += 1

    def observed(self, plugin: str, outcome: str, count: int = 1) -> None:
        """Count what became of notifying an observer."""
        self._cells[self._observers[plugin][outcome]] += count

    def shadowed(self, shadow: Outcome, *, differs: bool | None) -> None:
        """Count the decision of a shadow plugin."""
        if shadow.has_slow_or_failed_steps:
            self._steps(shadow)
        self._cells[self._records] += 1
        if differs:
            for step in shadow.steps:
                self._cells[self._differing[step.plugin]] += 1


def _observe(cells: memoryview, first: int, bounds: tuple[float, ...], seconds: float) -> None:
    """Add one observation to a histogram."""
    cells[first] += int(seconds * NANO)
    cells[first + BUCKETS + bisect_left(bounds, seconds)] += 1
