"""The status document: the body of ``/status``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from pexpolicy import __version__
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.observability import metrics, nodes
from pexpolicy.observability.aggregate import Readings, read
from pexpolicy.observability.metrics import BUCKETS, CALL_BOUNDS, NANO
from pexpolicy.observability.plugin_status import PluginStatuses
from pexpolicy.observability.shared_memory import Labels
from pexpolicy.observability.telemetry import Telemetry
from pexpolicy.plugins.plugin import BuiltPlugin
from pexpolicy.policy import Policy


class Status:
    """The state of one worker, and the counters of all workers of its server.

    ``policy`` returns the active policy.
    """

    def __init__(self, policy: Callable[[], Policy], telemetry: Telemetry) -> None:
        self._policy = policy
        self._telemetry = telemetry
        self._started = time.time()
        self._statuses = PluginStatuses()

    async def document(self) -> dict[str, Any]:
        """Return the document; times are seconds of the Unix epoch, durations seconds."""
        policy = self._policy()
        statuses = await self._statuses.collect(policy.plugins)
        readings = read(self._telemetry.board)
        now = time.time()
        sources = self._telemetry.sources
        reasons = sources.not_ready_reasons()
        return {
            "version": __version__,
            "pid": os.getpid(),
            "workers": readings[metrics.WORKERS][()][0],
            "started": self._started,
            "uptime": now - self._started,
            "ready": not reasons,
            "not_ready_reasons": reasons,
            "draining": sources.readiness.is_draining,
            "connections": readings[metrics.CONNECTIONS].get((), [None])[0],
            "loop_lag": readings[metrics.LOOP_LAG][()][0] / metrics.LOOP_LAG.scale,
            "memory": self._memory(),
            "config": self._config(policy, now),
            "audit": self._audit(readings),
            "certificate": self._certificate(),
            "endpoints": {
                name: _by_last_label(readings[metrics.REQUESTS], name) for name in ENDPOINTS
            },
            "refused": _by_last_label(readings[metrics.REFUSED]),
            "plugins": [_plugin(plugin, policy, readings, statuses) for plugin in policy.plugins],
            "sources": [
                {"name": source.name, "driver": source.driver_name, **source.lifespan.report()}
                for source in policy.sources
                if source.lifespan is not None
            ],
            "nodes": [
                {
                    "node": node.address,
                    "last_call": node.last_call or None,
                    "age": now - node.last_call if node.last_call else None,
                    "calls": node.calls,
                    "last_refused": node.last_refused or None,
                    "refused_because": node.refused_because or None,
                }
                for node in nodes.seen(self._telemetry.board)
            ],
        }

    def _config(self, policy: Policy, now: float) -> dict[str, Any]:
        reload = self._telemetry.sources.reload()
        return {
            "path": str(policy.settings.path),
            "hash": policy.config_hash,
            "activated_at": reload.last_success,
            "age": now - reload.last_success,
            "last_reload_successful": reload.last_successful,
            "problems": list(reload.problems),
            "restart_required": list(reload.restart_required),
            "changes": list(reload.changes),
        }

    def _audit(self, readings: Readings) -> dict[str, Any]:
        state = self._telemetry.sources.audit()
        document: dict[str, Any] = {"records": readings[metrics.AUDIT_RECORDS][()][0]}
        if state is not None:
            document |= {
                "status": state.status,
                "problem": state.error or None,
                "lost": readings[metrics.AUDIT_LOST].get((), [state.lost])[0],
                "spooled_bytes": state.spooled_bytes,
                "free_bytes": state.free_bytes,
                "synced_at": state.synced_at,
            }
        return document

    def _memory(self) -> dict[str, Any] | None:
        state = self._telemetry.sources.memory()
        if state is None:
            return None
        return {
            "resident_bytes": state.resident,
            "limit_bytes": state.limit,
            "is_exceeded": state.is_exceeded,
        }

    def _certificate(self) -> dict[str, Any] | None:
        state = self._telemetry.sources.certificate()
        if state is None:
            return None
        return {"not_after": state.not_after.timestamp(), "problem": state.problem or None}

    def close(self) -> None:
        """Cancel the status hooks that are running."""
        self._statuses.close()


def _plugin(
    plugin: BuiltPlugin, policy: Policy, readings: Readings, statuses: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    links = [link for chain in policy.chains.values() for link in chain.links]
    breakers = [
        link.breaker for link in links if link.plugin == plugin.name and link.breaker is not None
    ]
    opened = readings[metrics.BREAKER_OPEN].get((plugin.name,), [0])[0]
    return {
        "name": plugin.name,
        "distribution": plugin.available.distribution,
        "version": plugin.available.version,
        "mode": plugin.table.mode,
        "isolation": plugin.table.isolation,
        "hooks": list(plugin.implemented),
        "calls": _by_last_label(readings[metrics.PLUGIN_CALLS], plugin.name),
        "latency": _latency(readings[metrics.PLUGIN_DURATION].get((plugin.name,))),
        "observed": _observed(plugin.name, readings)
        if plugin.hooks.keys() & {"on_decision", "on_decisions"}
        else None,
        "breaker_open": bool(opened) if breakers else None,
        "has_stuck_calls": bool(plugin.threads and plugin.threads.stuck),
        **_background(plugin, policy),
        **statuses.get(plugin.name, {}),
    }


def _background(plugin: BuiltPlugin, policy: Policy) -> dict[str, Any]:
    lifespan = policy.lifespans.get(plugin.name)
    return lifespan.report() if lifespan is not None else {"data": {}, "jobs": {}, "failures": []}


def _observed(plugin: str, readings: Readings) -> dict[str, int]:
    """Return what became of notifying an observer, and how many decisions wait for it."""
    (pending,) = readings[metrics.OBSERVER_PENDING].get((plugin,), [0])
    return {**_by_last_label(readings[metrics.OBSERVER_CALLS], plugin), "pending": pending}


def _latency(cells: list[int] | None) -> dict[str, float | None] | None:
    """Return mean and 99th percentile in seconds, or ``None`` without calls.

    The percentile is the upper bound of its bucket, and ``None`` above the last bound.
    """
    if cells is None or not (count := sum(cells[BUCKETS:])):
        return None
    total, rank = 0, count - count // 100
    p99: float | None = None
    for bound, calls in zip(CALL_BOUNDS, cells[BUCKETS:], strict=False):
        total += calls
        if total >= rank:
            p99 = bound
            break
    return {"mean": cells[0] / NANO / count, "p99": p99}


def _by_last_label(series: dict[Labels, list[int]], *before: str) -> dict[str, int]:
    """Return the non-zero counters with these first labels, by their last label."""
    return {labels[-1]: n for labels, (n,) in series.items() if labels[:-1] == before and n}
