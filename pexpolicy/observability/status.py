"""The status document: the body of ``/status``."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from pexpolicy import __version__
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.errors import describe_error
from pexpolicy.fleet.bundle import report
from pexpolicy.models.event import EVENTS, OTHER
from pexpolicy.observability import metrics
from pexpolicy.observability.metrics import CALL_BOUNDS, Snapshot
from pexpolicy.observability.telemetry import ReadinessState, Telemetry
from pexpolicy.plugins.binding import report_of
from pexpolicy.plugins.plugin import BuiltPlugin
from pexpolicy.policy import Policy
from pexpolicy.tasks import hide, run_in_thread

Json = dict[str, Any]
"""An object of JSON."""
STATUS_TIMEOUT_S = 1.0
"""For the status hooks of all plugins together."""
ReportTask = asyncio.Task[Json]


async def document(policy: Policy, telemetry: Telemetry, reports: PluginStatuses) -> Json:
    """Return the state of one worker with the counters of all; times are seconds of the Unix epoch,
    durations seconds.
    """
    sources, shared = telemetry.sources, policy.shared_state
    statuses = await reports.collect(policy.plugins)
    counted = await telemetry.merged()
    events = await sources.events() if sources.events is not None else None
    audit, certificate, reload = sources.audit, sources.certificate(), sources.reload()
    reasons, now = sources.not_ready_reasons(), time.time()
    bundle = await run_in_thread(lambda: report(policy.settings), "pexpolicy-bundle")
    return {
        "version": __version__,
        "instance": policy.settings.instance,
        "pid": os.getpid(),
        "workers": int(counted.value(metrics.WORKERS) or 0),
        "started": telemetry.started,
        "uptime": now - telemetry.started,
        "ready": not reasons,
        "not_ready_reasons": reasons,
        # What an operator has to repair although the server is ready.
        "degraded": [reload.started_from] if reload.started_from else [],
        "draining": sources.readiness is ReadinessState.DRAINING,
        "connections": int(counted.value(metrics.CONNECTIONS) or 0),
        "loop_lag": counted.value(metrics.LOOP_LAG),
        "memory": _memory(),
        "config": {
            "path": str(policy.settings.path),
            "policy_hash": policy.policy_hash,
            "activated_at": reload.last_success,
            "age": now - reload.last_success,
            "last_reload_successful": reload.last_successful,
            "problems": list(reload.problems),
            "restart_required": list(reload.restart_required),
            "changes": list(reload.changes),
            "state_dir": str(policy.settings.state_dir.absolute()),
            # Of several workers the first one keeps it.
            "not_kept": reload.not_kept
            or (None if counted.value(metrics.CONFIG_KEPT) else "the log says why"),
        },
        "bundle": bundle,
        "audit": {
            "records": int(counted.value(metrics.AUDIT_RECORDS) or 0),
            "status": audit.status,
            "problem": audit.error or None,
            "lost": int(counted.value(metrics.AUDIT_LOST) or 0),
            "spooled_bytes": audit.spooled_bytes,
            "free_bytes": audit.free_bytes,
            "synced_at": audit.synced_at,
            "ship_lag": audit.ship_lag,
            "removed_unshipped": int(counted.value(metrics.AUDIT_REMOVED_UNSHIPPED) or 0),
        },
        "certificate": certificate
        and {
            "not_after": certificate.loaded.not_after.timestamp(),
            "problem": certificate.problem or None,
        },
        "endpoints": {name: counted.by_last_label(metrics.REQUESTS, name) for name in ENDPOINTS},
        "events": events
        and {
            **events,
            "counts": {
                name: found
                for name in (*EVENTS, OTHER)
                if (found := counted.by_last_label(metrics.EVENTS, name))
            },
            "remarks": counted.by_last_label(metrics.EVENT_REMARKS),
        },
        "name_problems": [
            {"kind": ".".join((*names.table[1:2], one.kind)), "name": one.name, "problem": one.text}
            | {"uses": len(one.places), "at": one.shown}
            for names in policy.all_names
            for one in names.problems()
        ],
        "commands": [name for name, one in policy.platforms.items() if one.has_commands],
        "refused": counted.by_last_label(metrics.REFUSED),
        "plugins": [
            {**_plugin(plugin, policy, counted), **statuses.get(plugin.name, {})}
            for plugin in policy.plugins
        ],
        "shared": shared and {"available": shared.is_available, "problem": shared.problem or None},
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
            for node in counted.nodes.values()
        ],
    }


def _memory() -> dict[str, int] | None:
    """Return the resident memory of this process; ``None`` if the system does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except OSError:
        return None
    return {"resident_bytes": pages * os.sysconf("SC_PAGE_SIZE")}


def _plugin(plugin: BuiltPlugin, policy: Policy, counted: Snapshot) -> Json:
    name, lifespan = plugin.name, policy.lifespans.get(plugin.name)
    observed = None
    if plugin.hooks.keys() & {"on_decision", "on_decisions"}:
        pending = int(counted.value(metrics.OBSERVER_PENDING, name) or 0)
        observed = {**counted.by_last_label(metrics.OBSERVER_CALLS, name), "pending": pending}
    breakers = [link.breaker for link in policy.links() if link.plugin == name and link.breaker]
    opened = [found for one in breakers if (found := one.state(time.perf_counter()))]
    return {
        "name": name,
        "distribution": plugin.available.distribution,
        "version": plugin.available.version,
        "mode": plugin.table.mode,
        "isolation": plugin.table.isolation,
        "hooks": list(plugin.implemented),
        "calls": counted.by_last_label(metrics.PLUGIN_CALLS, name),
        "latency": _latency(counted, name),
        "observed": observed,
        "breaker_open": bool(counted.value(metrics.BREAKER_OPEN, name)) if breakers else None,
        # Of this worker: others may have opened theirs at another time.
        "breaker": opened[0] if opened else None,
        "has_stuck_calls": bool(plugin.threads.running),
        **(lifespan.report() if lifespan is not None else {"data": {}, "jobs": {}, "failures": []}),
    }


def _latency(counted: Snapshot, plugin: str) -> dict[str, float | None] | None:
    """Return mean and 99th percentile in seconds, or ``None`` without calls.

    The percentile is the upper bound of its bucket, and ``None`` above the last bound.
    """
    name = metrics.PLUGIN_DURATION.name
    samples = counted.families[name].samples
    count = int(samples.get((f"{name}_count", plugin), 0))
    if not count:
        return None
    rank = count - count // 100
    bounds = (b for b in CALL_BOUNDS if samples[f"{name}_bucket", plugin, repr(b)] >= rank)
    return {"mean": samples[f"{name}_sum", plugin] / count, "p99": next(bounds, None)}


class PluginStatuses:
    """Calls the status hooks of plugins, each once at a time: a stuck one holds one thread only.

    ``timeout`` in seconds.
    """

    def __init__(self, timeout: float = STATUS_TIMEOUT_S) -> None:
        self._timeout = timeout
        self._running: dict[str, ReportTask] = {}

    async def collect(self, plugins: Iterable[BuiltPlugin]) -> dict[str, Json]:
        """Return for each plugin with the hook its ``status``, or the ``problem`` of getting it."""
        tasks: list[tuple[BuiltPlugin, ReportTask]] = []
        for plugin in plugins:
            if "status" not in plugin.hooks:
                continue
            task = self._running.get(plugin.name)
            if task is None or task.done():
                task = self._running[plugin.name] = asyncio.create_task(_report(plugin))
                hide(task)
            tasks.append((plugin, task))
        if tasks:
            await asyncio.wait([task for _, task in tasks], timeout=self._timeout)
        for plugin, task in tasks:
            if plugin.is_isolated:
                task.cancel()  # a late worker is killed and replaced, so no task of it stays
        late = {"problem": f"its status gave no answer within {self._timeout:.3g} s"}
        return {
            plugin.name: task.result() if task.done() and not task.cancelled() else late
            for plugin, task in tasks
        }

    def close(self) -> None:
        """Cancel the hooks that are running."""
        for task in self._running.values():
            task.cancel()


async def _report(plugin: BuiltPlugin) -> Json:
    """Return the report or the failure: SystemExit raised in a task would end the event loop."""
    try:
        return {"status": orjson.loads(await report_of(plugin))}
    except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
        return {"problem": f"its status failed: {describe_error(error).summary}"}
