"""What runs and how it is, in one document: the answer of ``/status``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from pexpolicy import __version__
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.observability import metrics, nodes
from pexpolicy.observability.aggregate import Readings, read
from pexpolicy.observability.plugin_status import PluginStatuses
from pexpolicy.observability.shared_memory import Labels
from pexpolicy.observability.telemetry import Telemetry
from pexpolicy.plugins.plugin import Plugin
from pexpolicy.policy import Policy


class Status:
    """Tells of one worker, and of what all workers of its server have counted.

    ``policy`` gives the policy that is in force.
    """

    def __init__(self, policy: Callable[[], Policy], telemetry: Telemetry) -> None:
        self._policy = policy
        self._telemetry = telemetry
        self._began = time.time()
        self._statuses = PluginStatuses()

    async def tell(self) -> dict[str, Any]:
        """The document; times are seconds of the Unix epoch, ages and durations seconds."""
        policy = self._policy()
        said = await self._statuses.ask(policy.plugins)
        readings = read(self._telemetry.board)
        now = time.time()
        sources = self._telemetry.sources
        unready = sources.unready()
        return {
            "version": __version__,
            "pid": os.getpid(),
            "workers": readings[metrics.WORKERS][()][0],
            "started": self._began,
            "uptime": now - self._began,
            "ready": not unready,
            "unready": unready,
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
            "plugins": [_plugin(plugin, policy, readings, said) for plugin in policy.plugins],
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
            "taken_up": reload.last_success,
            "age": now - reload.last_success,
            "last_reload_successful": reload.last_successful,
            "problems": list(reload.problems),
            "awaiting_restart": list(reload.awaiting_restart),
        }

    def _audit(self, readings: Readings) -> dict[str, Any]:
        state = self._telemetry.sources.audit()
        told: dict[str, Any] = {"records": readings[metrics.AUDIT_RECORDS][()][0]}
        if state is not None:
            told |= {
                "status": state.status,
                "problem": state.error or None,
                "lost": readings[metrics.AUDIT_LOST].get((), [state.lost])[0],
                "spooled_bytes": state.spooled_bytes,
                "free_bytes": state.free_bytes,
                "synced_at": state.synced_at,
            }
        return told

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
        """Ask no more."""
        self._statuses.close()


def _plugin(
    plugin: Plugin, policy: Policy, readings: Readings, said: dict[str, dict[str, Any]]
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
        "hooks": list(plugin.hooks),
        "calls": _by_last_label(readings[metrics.PLUGIN_CALLS], plugin.name),
        "observed": _by_last_label(readings[metrics.OBSERVER_CALLS], plugin.name)
        if "on_decision" in plugin.hooks
        else None,
        "breaker_open": bool(opened) if breakers else None,
        "has_calls_that_do_not_come_back": bool(plugin.threads and plugin.threads.stuck),
        **said.get(plugin.name, {}),
    }


def _by_last_label(series: dict[Labels, list[int]], *before: str) -> dict[str, int]:
    """The counters whose first labels are these, by the last one; those that are 0 left out."""
    return {labels[-1]: n for labels, (n,) in series.items() if labels[:-1] == before and n}
