"""The telemetry of one worker: what it counts, its nodes, readiness, and the gauges it samples.

What is on the path of each call is a look-up and an addition: the children of metrics are kept.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pexpolicy import __version__
from pexpolicy.access.certificates import Certificates
from pexpolicy.access.refusals import REASONS, UNAUTHORISED, WRONG_TOKEN
from pexpolicy.audit.journal import AuditState
from pexpolicy.background.shared_state import OUTCOMES as SHARED_OUTCOMES
from pexpolicy.chain.background import OBSERVER_OUTCOMES
from pexpolicy.chain.chain import QUICK
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.outcome import (
    ABSTAINED,
    ANSWERED,
    DECIDED,
    DEFAULT,
    NOT_ANSWERED,
    SKIPPED,
    Outcome,
)
from pexpolicy.models.request import CallFacts
from pexpolicy.observability import metrics
from pexpolicy.observability.metrics import (
    MAX_NODES,
    METRICS,
    Family,
    Node,
    Snapshot,
    family_of,
    last_nodes,
)
from pexpolicy.plugins.metrics import PLUGIN_METRICS, Definition, Series
from pexpolicy.policy import Answer, Policy
from pexpolicy.tasks import run_in_thread

Texts = tuple[str, ...]
"""Lines for people, or the values of labels."""
INTERNAL = "internal"
"""The cause of a fallback by a fault of the server itself."""
UNRECORDED = "audit"
"""The cause of a fallback because the audit could not be written."""
CALL_OUTCOMES = ("continue", "reject", "redirect", "default", "default_reject")
"""Actions of replies; the last two are those without a decision of a plugin."""
MAX_ADDRESS = 48
"""Maximum length of an address; the longest IPv6 address has 45."""
LAG_INTERVAL_S = 0.25
LAG_SAMPLES = 240
"""Samples of which the maximum lag is exposed, those of 60 s."""
_QUICK_MS = QUICK / 1000
_BY_DEFAULT = {"continue": "default", "reject": "default_reject"}


class ReadinessState(Enum):
    """The phase of a server. The value is the body of ``/readyz``."""

    STARTING = "starting"
    READY = "ok"
    DRAINING = "draining"


@dataclass
class ReloadState:
    """The outcome of reloads; the default is that of a server without any."""

    last_successful: bool = True
    """False after a refused reload, until a configuration is activated."""
    last_success: float = field(default_factory=time.time)
    """The time of the last activation in seconds since the epoch."""
    problems: Texts = ()
    """The errors of the last configuration, if it was refused."""
    restart_required: Texts = ()
    """Changed keys that take effect at the next start."""
    changes: Texts = ()
    """What the last reload changed, by name."""
    started_from: str = ""
    """Why the server decides by files that were kept, and by which."""
    not_kept: str = ""
    """Why the active configuration could not be kept on disk."""


CountKey = tuple[Definition, Texts]
"""A counter and the values of its labels."""
Gauge = tuple[Definition, Texts, float | None]


@dataclass(slots=True)
class StateSources:
    """The parts of a server with a state. They are read on the event loop, so they return what they
    know and do no I/O.
    """

    readiness: ReadinessState = ReadinessState.READY
    """While it is draining the server answers, and asks for no new calls."""
    answers: bool = True
    """Whether this process answers calls."""
    audit: AuditState = field(default_factory=AuditState)
    reload: Callable[[], ReloadState] = ReloadState
    certificate: Callable[[], Certificates | None] = lambda: None
    connections: Callable[[], int | None] = lambda: None
    bundle_refused: Callable[[], bool | None] = lambda: None
    """Whether the present bundle stays for a reason; of several workers the first one knows."""
    event_counts: Callable[[], Mapping[CountKey, int]] = dict
    """Returns what became of events since the last call."""
    event_gauges: Callable[[], Iterable[Gauge]] = tuple
    events: Callable[[], Awaitable[Mapping[str, object] | None]] | None = None
    """Returns the state of event sinks for the status, if there are any."""
    silent_workers: int = 0
    """Other workers of this server that have answered nothing for seconds."""

    def not_ready_reasons(self) -> list[str]:
        """Return why no calls should be sent here; empty for a server that is ready.

        A failing plugin is not a reason: it fails on every server, and all would become unready.
        """
        is_ready = self.readiness is ReadinessState.READY
        reasons = [] if is_ready else [self.readiness.value]
        if self.silent_workers:
            reasons.append(f"{self.silent_workers} of the workers do not answer")
        if self.audit.loses_lines:
            reasons.append(f"the audit cannot be written: {self.audit.error or 'unknown reason'}")
        return reasons

    def public_reasons(self) -> list[str]:
        """Return the same for clients without credentials: no errors or paths."""
        if self.readiness is not ReadinessState.READY:
            return [self.readiness.value]
        return ["not ready"] if self.not_ready_reasons() else []


NO_ENVIRONMENT = "-"
_SAMPLED = {found.name: found for found in METRICS.values() if found.kind == "gauge"}
for _counter in (metrics.AUDIT_LOST, metrics.AUDIT_REMOVED_UNSHIPPED):
    _SAMPLED[_counter.name] = _counter


class Times:
    """How often something took how many seconds, by the bounds of a histogram."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Above each bound and up to the next one."""
        self.total = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count something that took so long."""
        self.counts[bisect_left(self._bounds, seconds)] += count
        self.total += seconds * count


class Telemetry:
    """Counts calls, and reads gauges when they are asked for."""

    def __init__(self, sources: StateSources | None = None) -> None:
        self.sources = sources or StateSources()
        self.started = time.time()
        self.merge: Callable[[Snapshot], Awaitable[Snapshot]] | None = None
        """Returns the snapshot of all workers, given that of this one, where there are several."""
        self.nodes = Nodes()
        self._metrics = {
            found: Series(found, name) for name, found in METRICS.items() if name not in _SAMPLED
        }
        self._answered = Counter[tuple[str, str, str]]()
        """Calls by endpoint, outcome and environment."""
        self._durations = {endpoint: Times(metrics.DURATION.bounds) for endpoint in ENDPOINTS}
        self._left = Times(metrics.REMAINING.bounds)
        self._records = self._metrics[metrics.AUDIT_RECORDS][()]
        self._steps = self._metrics[metrics.PLUGIN_CALLS]
        self._step_durations = self._metrics[metrics.PLUGIN_DURATION]
        self._quick: dict[tuple[str, str], list[int]] = {}
        """How many quick steps took each microsecond, by plugin and outcome."""
        self._budget = 0.0
        self._policy: Policy | None = None
        self._lags: deque[float] = deque(maxlen=LAG_SAMPLES)
        self._metrics[metrics.REQUESTS].make(ENDPOINTS, CALL_OUTCOMES)
        self._metrics[metrics.DURATION].make(ENDPOINTS)
        self._metrics[metrics.FALLBACK].make(ENDPOINTS, (*NOT_ANSWERED, INTERNAL, UNRECORDED))
        self._metrics[metrics.REFUSED].make(REASONS)
        self._metrics[metrics.SHARED_OPERATIONS].make(SHARED_OUTCOMES)

    def _add(self, definition: Definition, counted: dict[Any, int]) -> None:
        """Add what was counted since the last time."""
        for labels, count in counted.items():
            self._metrics[definition][labels].inc(count)
        counted.clear()

    def use_policy(self, policy: Policy) -> None:
        """Count for another policy from now on."""
        for link in policy.links():
            self._steps.make((link.plugin,), (DECIDED, ABSTAINED, *NOT_ANSWERED))
            self._step_durations.make((link.plugin,))
            for outcome, cells in link.quick.items():
                link.quick[outcome] = self._quick.setdefault((link.plugin, outcome), cells)
        self._metrics[metrics.SHADOW_DIFF].make(
            plugin.name for plugin in policy.plugins if plugin.table.mode == "shadow"
        )
        observers = (queue.plugin for queue in policy.observers)
        self._metrics[metrics.OBSERVER_CALLS].make(observers, OBSERVER_OUTCOMES)
        if environments := policy.settings.environments:
            of_environments = self._metrics[metrics.ENVIRONMENT_REQUESTS]
            of_environments.make((*environments, NO_ENVIRONMENT), CALL_OUTCOMES)
        self._budget, self._policy = policy.settings.server.budget, policy

    def answered(self, call: CallFacts, answer: Answer) -> None:
        """Count a call. ``_snapshot`` makes metrics of it (a call so: 0.94, paired)."""
        outcome, action, seconds = answer.outcome, answer.reply.action, call.seconds()
        request = outcome.request
        if outcome.decided_by == DEFAULT:
            action = _BY_DEFAULT.get(action, action)
        self._answered[outcome.endpoint, action, request.environment or NO_ENVIRONMENT] += 1
        self._durations[outcome.endpoint].add(seconds)
        self._left.add(max(self._budget - seconds, 0.0))
        if outcome.has_slow_or_failed_steps and (cause := self._count_steps(outcome)):
            self.count_fallback(outcome.endpoint, cause)
        self.nodes.called(request.params.get("node_ip"), request.peer)

    def _count_steps(self, outcome: Outcome) -> str:
        """Count each step except quick ones, which the chain has counted.

        Return the outcome of the first plugin without a usable answer, or an empty text.
        """
        for step in outcome.steps:
            if step.ms < _QUICK_MS and step.outcome in ANSWERED:
                continue
            self._steps[step.plugin, step.outcome].inc()
            if step.outcome != SKIPPED:
                self._step_durations[step.plugin,].observe(step.ms / 1000)
        return next((step.outcome for step in outcome.steps if step.outcome in NOT_ANSWERED), "")

    def count_fallback(self, endpoint: str, cause: str) -> None:
        """Count a call with a fallback."""
        self._metrics[metrics.FALLBACK][endpoint, cause].inc()

    def refused(self, reason: str, peer: str | None) -> None:
        """Count a request that was refused before any plugin was asked."""
        self._metrics[metrics.REFUSED][reason,].inc()
        if reason in (UNAUTHORISED, WRONG_TOKEN):
            self._metrics[metrics.AUTH_FAILURES][()].inc()
        self.nodes.refused(address_of(None, peer), reason)

    def recorded(self) -> None:
        """Count an audit record of refusals."""
        self._records.inc()

    def observed(self, plugin: str, outcome: str, count: int = 1) -> None:
        """Count what became of notifying an observer."""
        self._metrics[metrics.OBSERVER_CALLS][plugin, outcome].inc(count)

    def shadowed(self, _: Outcome, shadow: Outcome, differs: bool | None) -> None:  # noqa: FBT001
        """Count the decision of a shadow plugin."""
        self._count_steps(shadow)
        self._records.inc()
        for step in shadow.steps if differs else ():
            self._metrics[metrics.SHADOW_DIFF][step.plugin,].inc()

    def snapshot(self) -> Snapshot:
        """Return what this process has counted, and its gauges; on the event loop."""
        return self._snapshot(self._sample())

    async def snapshot_in_thread(self) -> Snapshot:
        """Return the same, with little delay for calls."""
        sampled = self._sample()
        return await run_in_thread(lambda: self._snapshot(sampled), "pexpolicy-metrics")

    def _snapshot(self, sampled: dict[str, Family]) -> Snapshot:
        """Add to gauges what was counted. Safe in any thread."""
        families = sampled | {one.definition.name: family_of(one) for one in self._metrics.values()}

        def add(definition: Definition, labels: Texts, count: int) -> None:
            families[definition.name].add((definition.name, *labels), count)

        for (plugin, outcome), cells in self._quick.copy().items():
            add(metrics.PLUGIN_CALLS, (plugin, outcome), sum(cells))
            times = Times(metrics.PLUGIN_DURATION.bounds)
            for us, count in enumerate(cells):
                times.add(us / 1e6, count)
            families[metrics.PLUGIN_DURATION.name].add_times((plugin,), times.counts, times.total)
        for endpoint, one in self._durations.items():
            families[metrics.DURATION.name].add_times((endpoint,), one.counts, one.total)
        families[metrics.REMAINING.name].add_times((), self._left.counts, self._left.total)
        policy, used = self._policy, set()
        for (endpoint, action, environment), count in [*self._answered.items()]:
            add(metrics.REQUESTS, (endpoint, action), count)
            add(metrics.AUDIT_RECORDS, (), count)
            if policy is not None and policy.settings.environments:
                add(metrics.ENVIRONMENT_REQUESTS, (environment, action), count)
        if policy is not None:
            used = {one.name for one in policy.plugins}
            used |= {f"sources.{one.name}" for one in policy.sources}
        for name, found in PLUGIN_METRICS.collect(used, METRICS):
            families[name] = family_of(found)
        return Snapshot(families, self.nodes.copy())

    async def merged(self) -> Snapshot:
        """Return what all workers have counted."""
        own = await self.snapshot_in_thread()
        return own if self.merge is None else await self.merge(own)

    async def measure_lag(self) -> None:
        """Measure the lag of the event loop without end."""
        while True:
            due = time.perf_counter() + LAG_INTERVAL_S
            await asyncio.sleep(LAG_INTERVAL_S)
            self._lags.append(max(time.perf_counter() - due, 0.0))

    def _sample(self) -> dict[str, Family]:
        """Return all gauges by name, and add what others have counted since the last time."""
        if (policy := self._policy) is not None:
            self._add(metrics.JOB_RUNS, policy.context.shared.history.runs)
            if policy.shared_state is not None:
                self._add(metrics.SHARED_OPERATIONS, policy.shared_state.counted)
        for (definition, labels), count in self.sources.event_counts().items():
            self._metrics[definition][labels].inc(count)
        sampled = {
            name: Family(name.removesuffix("_total"), found, {}) for name, found in _SAMPLED.items()
        }
        for definition, labels, value in self._gauges():
            if value is not None:
                sampled[definition.name].samples[definition.name, *labels] = float(value)
        return sampled

    def _gauges(self) -> Iterator[Gauge]:
        sources = self.sources
        reload, audit, certificate = sources.reload(), sources.audit, sources.certificate()
        values: dict[Definition, float | None] = {
            metrics.WORKERS: sources.answers,
            metrics.LOOP_LAG: max(self._lags, default=0.0) if sources.answers else None,
            metrics.READY: not sources.not_ready_reasons(),
            metrics.RELOAD_SUCCESSFUL: reload.last_successful,
            metrics.RELOADED: reload.last_success,
            metrics.DEGRADED: bool(reload.started_from),
            metrics.CONFIG_KEPT: not reload.not_kept,
            metrics.BUNDLE_REFUSED: sources.bundle_refused(),
            metrics.AUDIT_LOST: audit.lost,
            metrics.AUDIT_FREE: audit.free_bytes,
            metrics.AUDIT_LAST_FSYNC: audit.synced_at,
            metrics.AUDIT_SHIP_LAG: audit.ship_lag,
            metrics.AUDIT_REMOVED_UNSHIPPED: audit.removed_unshipped,
            metrics.CERTIFICATE: certificate.loaded.not_after.timestamp() if certificate else None,
            metrics.CONNECTIONS: sources.connections(),
        }
        yield from ((found, (), value) for found, value in values.items())
        if self._policy is not None:
            yield from _policy_gauges(self._policy)
        yield from sources.event_gauges()


def _policy_gauges(policy: Policy) -> Iterator[tuple[Definition, Texts, float]]:
    yield metrics.BUILD_INFO, (__version__, policy.policy_hash), 1
    if policy.shared_state is not None:
        yield metrics.SHARED_AVAILABLE, (), policy.shared_state.is_available
    unknown: Counter[str] = Counter()
    for names in policy.all_names:
        unknown.update(dict.fromkeys(names.listed, 0))
        unknown.update(one.kind for one in names.unknown())
    for kind, count in unknown.items():
        yield metrics.UNKNOWN_NAMES, (kind,), count
    for queue in policy.observers:
        yield metrics.OBSERVER_PENDING, (queue.plugin,), queue.pending
    links = policy.links()
    breakers = [(link.breaker is not None and link.breaker.is_open, link.plugin) for link in links]
    # The last one counts: a plugin whose breaker is open in any chain.
    for is_open, plugin in sorted(breakers):
        yield metrics.BREAKER_OPEN, (plugin,), is_open
    for name, lifespan in policy.lifespans.copy().items():
        yield metrics.BACKGROUND_FAILURES, (name,), len(lifespan.failures)
        for data in lifespan.refreshed:
            # A series without a value would raise no alert.
            yield metrics.DATA_AGE, (name, data.name), max(data.waiting_for, 0.001)
            yield metrics.DATA_INTERVAL, (name, data.name), data.every


class Nodes:
    """The last nodes of one worker; the symptom of a wrong URL is that none calls."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}

    def called(self, node_ip: str | None, peer: str | None = None) -> None:
        """Record an answered call of a node, which it names or else is its peer."""
        node = self._nodes.get(node_ip or "") or self._node(address_of(node_ip, peer))
        node.last_call = time.time()
        node.calls += 1

    def refused(self, address: str, why: str) -> None:
        """Record a refused request."""
        node = self._node(address)
        node.last_refused, node.refused_because = time.time(), why

    def _node(self, address: str) -> Node:
        if address not in self._nodes and len(self._nodes) >= 2 * MAX_NODES:
            self._nodes = self.copy()
        return self._nodes.setdefault(address, Node(address))

    def copy(self) -> dict[str, Node]:
        """Return the last nodes by address. Safe in any thread."""
        return last_nodes(self._nodes.copy().values())


def address_of(node_ip: str | None, peer: str | None) -> str:
    """Return the node that a request names, as it may come through a proxy, else the peer."""
    if node_ip and len(node_ip) <= MAX_ADDRESS and node_ip.isascii() and node_ip.isprintable():
        return node_ip
    return peer or "unknown"
