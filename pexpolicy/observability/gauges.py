"""Gauges that a timer samples: event loop lag, circuit breakers, and the state of other parts."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Self

from pexpolicy.background.lifespan import Lifespan
from pexpolicy.chain.circuit_breaker import CircuitBreaker
from pexpolicy.chain.observers import ObserverQueue
from pexpolicy.errors import describe_error
from pexpolicy.observability import metrics
from pexpolicy.observability.health import StateSources
from pexpolicy.observability.metrics import MetricDefinition
from pexpolicy.observability.plugin_metrics import PluginMetricsWriter
from pexpolicy.observability.shared_memory import WorkerCounters

SAMPLE_INTERVAL_S = 0.25
LAG_WINDOW_S = 30.0
"""Minimum time for which a maximum is kept; it is kept at most twice as long."""


class LoopLag:
    """Maximum event loop lag over the last 30 to 60 s."""

    def __init__(self) -> None:
        self._since = 0.0
        self._worst = self._before = 0.0

    def record(self, now: float, lag: float) -> float:
        """Record a lag in seconds, and return the maximum."""
        if now - self._since >= LAG_WINDOW_S:
            self._before = self._worst if now - self._since < 2 * LAG_WINDOW_S else 0.0
            self._since, self._worst = now, 0.0
        self._worst = max(self._worst, lag)
        return max(self._worst, self._before)


class GaugeSampler(AbstractContextManager["GaugeSampler"]):
    """Writes gauges into the counters of a worker while it is entered, on the event loop."""

    def __init__(self, counters: WorkerCounters, sources: StateSources) -> None:
        self._counters = counters
        self._sources = sources
        self._lag = LoopLag()
        self._lag_cell = counters.allocate(metrics.LOOP_LAG)
        self._lost_before = counters.cells[counters.allocate(metrics.AUDIT_LOST)]
        self._breakers: Mapping[str, tuple[CircuitBreaker, ...]] = {}
        self._lifespans: Mapping[str, Lifespan] = {}
        self._plugin_metrics = PluginMetricsWriter(counters)
        self._observers: tuple[ObserverQueue, ...] = ()
        self._info = 0
        self._timer: asyncio.TimerHandle | None = None
        self.problem = ""
        """Why the last sample failed, or an empty text."""

    def use_policy(
        self,
        config_hash: str,
        breakers: Mapping[str, Iterable[CircuitBreaker]],
        lifespans: Mapping[str, Lifespan],
        plugins: Collection[str] = (),
        observers: Collection[ObserverQueue] = (),
    ) -> None:
        """Sample the plugins of another policy from now on."""
        self._plugin_metrics.use_plugins(plugins)
        for queue in self._observers:
            self._set(metrics.OBSERVER_PENDING, 0, queue.plugin)
        self._observers = tuple(observers)
        for plugin, lifespan in self._lifespans.items():
            self._set(metrics.BACKGROUND_FAILURES, 0, plugin)
            for data in lifespan.refreshed:
                for family in (metrics.DATA_AGE, metrics.DATA_INTERVAL):
                    self._set(family, 0, plugin, data.name)
        self._lifespans = lifespans
        for plugin in self._breakers:
            self._set(metrics.BREAKER_OPEN, 0, plugin)
        self._breakers = {plugin: tuple(found) for plugin, found in breakers.items()}
        if self._info:
            self._counters.cells[self._info] = 0
        self._info = self._counters.rename_series(metrics.CONFIG_INFO, (config_hash,))
        self.sample()

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._next(self._loop.time())
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._plugin_metrics.write()
        self._counters.release()

    def _next(self, now: float) -> None:
        self._counters.heartbeat()
        self._due = now + SAMPLE_INTERVAL_S
        self._timer = self._loop.call_at(self._due, self._beat)

    def _beat(self) -> None:
        now = self._loop.time()
        worst = self._lag.record(now, max(now - self._due, 0.0))
        self._counters.cells[self._lag_cell] = int(worst * metrics.LOOP_LAG.scale)
        self.sample()
        self._next(self._loop.time())

    def sample(self) -> None:
        """Write all gauges; ``problem`` is set if a source fails, which is read again next time."""
        try:
            self._sample()
        except Exception as error:  # noqa: BLE001 - a failed sample must not end the timer
            self.problem = describe_error(error).summary
        else:
            self.problem = ""

    def _sample(self) -> None:
        self._plugin_metrics.write()
        for queue in self._observers:
            self._set(metrics.OBSERVER_PENDING, queue.pending, queue.plugin)
        for plugin, breakers in self._breakers.items():
            self._set(metrics.BREAKER_OPEN, int(any(b.is_open for b in breakers)), plugin)
        for plugin, lifespan in self._lifespans.items():
            self._set(metrics.BACKGROUND_FAILURES, len(lifespan.failures), plugin)
            for data in lifespan.refreshed:
                # A series without a value would raise no alert.
                self._set(metrics.DATA_AGE, max(data.waiting_for, 0.001), plugin, data.name)
                self._set(metrics.DATA_INTERVAL, data.every, plugin, data.name)
        if self._info:
            self._counters.cells[self._info] = 1
        sources = self._sources
        for labels, runs in sources.job_runs().items():
            self._counters.cells[self._counters.allocate(metrics.JOB_RUNS, labels)] += runs
        self._set(metrics.READY, int(not sources.not_ready_reasons()))
        reload = sources.reload()
        self._set(metrics.RELOAD_SUCCESSFUL, int(reload.last_successful))
        self._set(metrics.RELOADED, reload.last_success)
        audit = sources.audit()
        if audit is not None:
            self._set(metrics.AUDIT_LOST, self._lost_before + audit.lost)
            self._set(metrics.AUDIT_FREE, audit.free_bytes)
            self._set(metrics.AUDIT_LAST_FSYNC, audit.synced_at)
        certificate = sources.certificate()
        if certificate is not None:
            self._set(metrics.CERTIFICATE, certificate.not_after.timestamp())
        self._set(metrics.CONNECTIONS, sources.connections())

    def _set(self, family: MetricDefinition, value: float | None, *labels: str) -> None:
        """Write a value; an unknown value has no series."""
        if value is not None:
            self._counters.cells[self._counters.allocate(family, labels)] = int(
                value * family.scale
            )
