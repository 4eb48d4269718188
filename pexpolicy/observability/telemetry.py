"""The telemetry of one worker: what it counts, its nodes, readiness, and the gauges it samples.

What is on the path of each call is a look-up and an addition: the children of metrics are kept.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pexpolicy.access.certificates import Certificates
from pexpolicy.access.refusals import REASONS, UNAUTHORISED, WRONG_TOKEN
from pexpolicy.audit.state import AuditState
from pexpolicy.background.schedule import JobRuns
from pexpolicy.chain.background import OBSERVER_OUTCOMES
from pexpolicy.chain.bound_hook import QUICK
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.errors import describe_error
from pexpolicy.metrics import PLUGIN_METRICS, Definition
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
from pexpolicy.observability.metrics import METRICS
from pexpolicy.observability.snapshot import MAX_NODES, Family, Node, Snapshot, family_of

if TYPE_CHECKING:
    from pexpolicy.models.request import CallFacts
    from pexpolicy.policy import Answer, Policy


STEP_OUTCOMES = (DECIDED, ABSTAINED, FAILED, TIMED_OUT, INVALID, BUSY, SKIPPED)
NOT_ANSWERED = (FAILED, TIMED_OUT, INVALID, BUSY, SKIPPED)
"""Outcomes without a usable answer."""
INTERNAL = "internal"
"""The cause of a fallback by a fault of the server itself."""
UNRECORDED = "audit"
"""The cause of a fallback because the audit could not be written."""
CALL_OUTCOMES = ("continue", "reject", "redirect", "default", "default_reject")
"""Actions of replies; the last two are those without a decision of a plugin."""
MAX_ADDRESS = 48
"""Maximum length of an address; the longest IPv6 address has 45."""
SAMPLE_INTERVAL_S = 0.25
LAG_WINDOW_S = 30.0
"""Minimum time for which a maximum is kept; it is kept at most twice as long."""
T = TypeVar("T")
_QUICK_MS = QUICK / 1000
_BY_DEFAULT = {"continue": "default", "reject": "default_reject"}


class ReadinessState(Enum):
    """The phase of a server. The value is the body of ``/readyz``."""

    STARTING = "starting"
    READY = "ok"
    DRAINING = "draining"


@dataclass
class Readiness:
    """The phase of a server; failing plugins do not change it."""

    state: ReadinessState = ReadinessState.STARTING

    @property
    def is_draining(self) -> bool:
        """True after the signal to stop: the server answers, and asks for no new calls."""
        return self.state is ReadinessState.DRAINING

    @property
    def is_ready(self) -> bool:
        """True while new calls should be sent here."""
        return self.state is ReadinessState.READY


@dataclass
class ReloadState:
    """The outcome of reloads; the default is that of a server without any."""

    last_successful: bool = True
    """False after a refused reload, until a configuration is activated."""
    last_success: float = field(default_factory=time.time)
    """The time of the last activation in seconds since the epoch."""
    problems: tuple[str, ...] = ()
    """The errors of the last configuration, if it was refused."""
    restart_required: tuple[str, ...] = ()
    """Changed keys that take effect at the next start."""
    changes: tuple[str, ...] = ()
    """What the last reload changed, by name."""


def _no_reloads() -> Callable[[], ReloadState]:
    state = ReloadState()
    return lambda: state


@dataclass(frozen=True, slots=True)
class StateSources:
    """The parts of a server with a state. They are read four times a second on the event loop, so
    they return what they know and do no I/O.
    """

    readiness: Readiness = field(default_factory=lambda: Readiness(ReadinessState.READY))
    audit: Callable[[], AuditState | None] = lambda: None
    reload: Callable[[], ReloadState] = field(default_factory=_no_reloads)
    certificate: Callable[[], Certificates | None] = lambda: None
    connections: Callable[[], int | None] = lambda: None
    job_runs: Callable[[], JobRuns] = Counter
    """Returns the runs of jobs since the last call."""

    def not_ready_reasons(self) -> list[str]:
        """Return why no calls should be sent here; empty for a server that is ready.

        A failing plugin is not a reason: it fails on every server, and all would become unready.
        """
        reasons = [] if self.readiness.is_ready else [self.readiness.state.value]
        audit = self.audit()
        if audit is not None and audit.status == "failed":
            reasons.append(f"the audit cannot be written: {audit.error or 'unknown reason'}")
        return reasons

    def public_reasons(self) -> list[str]:
        """Return the same for clients without credentials: no errors or paths."""
        if not self.not_ready_reasons():
            return []
        return ["not ready" if self.readiness.is_ready else self.readiness.state.value]


class _Children(dict[str, Any]):
    """The child of a metric for each value of its last label."""

    def __init__(self, metric: Any, before: tuple[str, ...], known: Iterable[str]) -> None:
        super().__init__()
        self._metric, self._before = metric, before
        for value in known:
            _ = self[value]

    def __missing__(self, value: str) -> Any:
        child = self[value] = self._metric.labels(*self._before, value)
        return child


class Telemetry(AbstractContextManager["Telemetry"]):
    """Counts calls at any time, and samples gauges while it is entered, on the event loop."""

    def __init__(self, sources: StateSources | None = None) -> None:
        self.sources = sources or StateSources()
        self.merge: Callable[[Snapshot], Awaitable[Snapshot]] | None = None
        """Returns the snapshot of all workers, given that of this one, where there are several."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pexpolicy-metrics")
        self._metrics = {name: definition.make() for name, definition in METRICS.items()}
        self.nodes = Nodes()
        self._endpoints = {name: _EndpointMetrics(self._of, name) for name in ENDPOINTS}
        self._left = self._of(metrics.REMAINING)
        self._records = self._of(metrics.AUDIT_RECORDS)
        self._refused = _Children(self._of(metrics.REFUSED), (), REASONS)
        self._differing = _Children(self._of(metrics.SHADOW_DIFF), (), ())
        self._steps: dict[str, _PluginMetrics] = {}
        self._observed: dict[str, _Children] = {}
        self._budget = 0.0
        self._policy: Policy | None = None
        self._plugins: set[str] = set()
        self._shown: dict[str, set[tuple[str, ...]]] = {}
        self._lost = 0
        self._lag = LoopLag()
        self._timer: asyncio.TimerHandle | None = None
        self.problem = ""
        """Why the last sample failed, or an empty text."""
        for name, definition in METRICS.items():
            if definition.kind == "gauge" and not definition.labels:
                self._metrics[name].set(math.nan)
        self._of(metrics.WORKERS).set(1)
        self._of(metrics.LOOP_LAG).set(0)

    def _of(self, definition: Definition) -> Any:
        return self._metrics[definition.name]

    def use_policy(self, policy: Policy) -> None:
        """Count for another policy from now on."""
        for link in policy.links():
            counted = self._plugin(link.plugin)
            for steps in (link.abstained_steps, link.decided_steps):
                _ = counted.outcomes[steps.outcome]
                steps.cells = counted.quick.setdefault(steps.outcome, steps.cells)
        for plugin in policy.plugins:
            if plugin.table.mode == "shadow":
                _ = self._differing[plugin.name]
        for queue in policy.observers:
            self._observers(queue.plugin)
        self._budget = policy.settings.server.budget
        self._policy = policy
        self._plugins = {plugin.name for plugin in policy.plugins}
        self._plugins |= {f"sources.{source.name}" for source in policy.sources}
        self.sample()

    def answered(self, call: CallFacts, answer: Answer) -> None:
        """Count a call."""
        outcome, action, seconds = answer.outcome, answer.reply.action, call.seconds()
        endpoint = self._endpoints[outcome.endpoint]
        if outcome.decided_by == DEFAULT:
            action = _BY_DEFAULT.get(action, action)
        endpoint.outcomes[action].inc()
        endpoint.duration.observe(seconds)
        self._left.observe(self._budget - seconds if seconds < self._budget else 0.0)
        if outcome.has_slow_or_failed_steps:
            cause = self._count_steps(outcome)
            if cause:
                endpoint.causes[cause].inc()
        self.nodes.called(call.params.get("node_ip"), call.peer)

    def _plugin(self, name: str) -> _PluginMetrics:
        found = self._steps.get(name)
        if found is None:
            found = self._steps[name] = _PluginMetrics(self._of, name)
        return found

    def _observers(self, plugin: str) -> _Children:
        found = self._observed.get(plugin)
        if found is None:
            calls = self._of(metrics.OBSERVER_CALLS)
            found = self._observed[plugin] = _Children(calls, (plugin,), OBSERVER_OUTCOMES)
        return found

    def _count_steps(self, outcome: Outcome) -> str:
        """Count each step except quick ones, which ``StepCounter`` has counted.

        Return the outcome of the first plugin without a usable answer, or an empty text.
        """
        cause = ""
        for step in outcome.steps:
            result, ms = step.outcome, step.ms
            if ms < _QUICK_MS and result in ANSWERED:
                continue
            plugin = self._plugin(step.plugin)
            plugin.outcomes[result].inc()
            if result != SKIPPED:
                plugin.duration.observe(ms / 1000)
            if not cause and result in NOT_ANSWERED:
                cause = result
        return cause

    def count_fallback(self, endpoint: str, cause: str) -> None:
        """Count a call with a fallback that no plugin caused."""
        self._endpoints[endpoint].causes[cause].inc()

    def refused(self, reason: str, peer: str | None) -> None:
        """Count a request that was refused before any plugin was asked."""
        self._refused[reason].inc()
        if reason in (UNAUTHORISED, WRONG_TOKEN):
            self._of(metrics.AUTH_FAILURES).inc()
        self.nodes.refused(address_of(None, peer), reason)

    def recorded(self) -> None:
        """Count an audit record of refusals."""
        self._records.inc()

    def observed(self, plugin: str, outcome: str, count: int = 1) -> None:
        """Count what became of notifying an observer."""
        self._observers(plugin)[outcome].inc(count)

    def shadowed(self, shadow: Outcome, *, differs: bool | None) -> None:
        """Count the decision of a shadow plugin."""
        if shadow.has_slow_or_failed_steps:
            self._count_steps(shadow)
        self._records.inc()
        if differs:
            for step in shadow.steps:
                self._differing[step.plugin].inc()

    def snapshot(self) -> Snapshot:
        """Return what this process has counted. Safe in any thread."""
        families = {
            name: family_of(name, METRICS[name], metric) for name, metric in self._metrics.items()
        }
        calls, durations = (
            families[metrics.PLUGIN_CALLS.name],
            families[metrics.PLUGIN_DURATION.name],
        )
        for plugin, counted in self._steps.copy().items():
            counted.add_quick(plugin, calls, durations)
        # A call is not counted as a record, to save an addition; other records are.
        answered = sum(families[metrics.REQUESTS.name].samples.values())
        families[metrics.AUDIT_RECORDS.name].add((metrics.AUDIT_RECORDS.name,), answered)
        for name, definition, metric in PLUGIN_METRICS.collect(self._plugins, METRICS):
            families[name] = family_of(name, definition, metric)
        return Snapshot(families, self.nodes.copy())

    async def merged(self) -> Snapshot:
        """Return what all workers have counted."""
        own = await self.in_thread(self.snapshot)
        return own if self.merge is None else await self.merge(own)

    def in_thread(self, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Call a function that takes milliseconds, which must not delay calls."""
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._next(self._loop.time())
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _next(self, now: float) -> None:
        self._due = now + SAMPLE_INTERVAL_S
        self._timer = self._loop.call_at(self._due, self._beat)

    def _beat(self) -> None:
        now = self._loop.time()
        self._of(metrics.LOOP_LAG).set(self._lag.record(now, max(now - self._due, 0.0)))
        self.sample()
        self._next(self._loop.time())

    def sample(self) -> None:
        """Set all gauges; ``problem`` is set if a source fails, which is read again next time."""
        try:
            if self._policy is not None:
                self._sample_policy(self._policy)
            self._sample_sources(self.sources)
        except Exception as error:  # noqa: BLE001 - a failed sample must not end the timer
            self.problem = describe_error(error).summary
        else:
            self.problem = ""

    def _sample_policy(self, policy: Policy) -> None:
        self._show(metrics.CONFIG_INFO, {(policy.config_hash,): 1})
        pending = {(queue.plugin,): queue.pending for queue in policy.observers}
        self._show(metrics.OBSERVER_PENDING, pending)
        breakers: dict[tuple[str, ...], float] = {}
        for chain in policy.chains.values():
            for link in chain.links:
                is_open = link.breaker is not None and link.breaker.is_open
                breakers[link.plugin,] = breakers.get((link.plugin,), 0) or int(is_open)
        self._show(metrics.BREAKER_OPEN, breakers)
        lifespans = policy.lifespans.copy()
        failures = {(name,): len(found.failures) for name, found in lifespans.items()}
        self._show(metrics.BACKGROUND_FAILURES, failures)
        data = {
            (name, found.name): found
            for name, lifespan in lifespans.items()
            for found in lifespan.refreshed
        }
        # A series without a value would raise no alert.
        ages = {labels: max(found.waiting_for, 0.001) for labels, found in data.items()}
        self._show(metrics.DATA_AGE, ages)
        self._show(metrics.DATA_INTERVAL, {labels: found.every for labels, found in data.items()})

    def _sample_sources(self, sources: StateSources) -> None:
        for labels, runs in sources.job_runs().items():
            self._of(metrics.JOB_RUNS).labels(*labels).inc(runs)
        self._of(metrics.READY).set(not sources.not_ready_reasons())
        reload, audit, certificate = sources.reload(), sources.audit(), sources.certificate()
        self._of(metrics.RELOAD_SUCCESSFUL).set(reload.last_successful)
        self._of(metrics.RELOADED).set(reload.last_success)
        if audit is not None:
            self._of(metrics.AUDIT_LOST).inc(max(audit.lost - self._lost, 0))
            self._lost = audit.lost
            self._set(metrics.AUDIT_FREE, audit.free_bytes)
            self._set(metrics.AUDIT_LAST_FSYNC, audit.synced_at)
        if certificate is not None:
            self._set(metrics.CERTIFICATE, certificate.not_after.timestamp())
        self._set(metrics.CONNECTIONS, sources.connections())

    def _set(self, definition: Definition, value: float | None) -> None:
        """Set a gauge; an unknown value has no series."""
        if value is not None:
            self._of(definition).set(value)

    def _show(self, definition: Definition, values: Mapping[Any, float]) -> None:
        """Set the series of a gauge, and remove its others."""
        gauge = self._of(definition)
        for labels, value in values.items():
            gauge.labels(*labels).set(value)
        for labels in self._shown.get(definition.name, set()) - values.keys():
            gauge.remove(*labels)
        self._shown[definition.name] = set(values)


class _EndpointMetrics:
    __slots__ = ("causes", "duration", "outcomes")

    def __init__(self, of: Callable[[Definition], Any], endpoint: str) -> None:
        causes = (*NOT_ANSWERED, INTERNAL, UNRECORDED)
        self.outcomes = _Children(of(metrics.REQUESTS), (endpoint,), CALL_OUTCOMES)
        self.causes = _Children(of(metrics.FALLBACK), (endpoint,), causes)
        self.duration = of(metrics.DURATION).labels(endpoint)


class _PluginMetrics:
    """The steps of one plugin, and by outcome how many quick ones took each microsecond."""

    __slots__ = ("duration", "outcomes", "quick")

    def __init__(self, of: Callable[[Definition], Any], plugin: str) -> None:
        self.outcomes = _Children(of(metrics.PLUGIN_CALLS), (plugin,), STEP_OUTCOMES)
        self.duration = of(metrics.PLUGIN_DURATION).labels(plugin)
        self.quick: dict[str, list[int]] = {}

    def add_quick(self, plugin: str, calls: Family, durations: Family) -> None:
        """Add the quick steps: they are in each bucket of the histogram."""
        name = durations.name
        bounds = [key for key in durations.samples if key[:2] == (f"{name}_bucket", plugin)]
        for outcome, cells in self.quick.copy().items():
            count = sum(cells)
            calls.add((calls.name, plugin, outcome), count)
            for key in (*bounds, (f"{name}_count", plugin)):
                durations.add(key, count)
            seconds = sum(us * n for us, n in enumerate(cells)) / 1e6
            durations.add((f"{name}_sum", plugin), seconds)


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


class Nodes:
    """The last nodes of one worker; the symptom of a wrong URL is that none calls.

    Addresses that were only refused are forgotten before others: anyone can send from thousands.
    """

    def __init__(self) -> None:
        self._callers: OrderedDict[str, Node] = OrderedDict()
        self._strangers: OrderedDict[str, Node] = OrderedDict()
        """Those that were only refused."""

    def called(self, node_ip: str | None, peer: str | None = None) -> None:
        """Record an answered call of a node, which it names or else is its peer."""
        node = self._callers.get(node_ip or "")
        if node is None:
            address = address_of(node_ip, peer)
            node = self._callers.get(address)
            if node is None:
                node = self._strangers.pop(address, None) or self._new(address)
                self._callers[address] = node
        self._callers.move_to_end(node.address)
        node.last_call = time.time()
        node.calls += 1

    def refused(self, address: str, why: str) -> None:
        """Record a refused request."""
        known = self._callers if address in self._callers else self._strangers
        if address not in known:
            known[address] = self._new(address)
        known.move_to_end(address)
        node = known[address]
        node.last_refused, node.refused_because = time.time(), why

    def _new(self, address: str) -> Node:
        """Return a new node, in place of the longest silent one if there are too many."""
        if len(self._callers) + len(self._strangers) >= MAX_NODES:
            (self._strangers or self._callers).popitem(last=False)
        return Node(address)

    def copy(self) -> dict[str, Node]:
        """Return the nodes by address. Safe in any thread."""
        return {**self._strangers.copy(), **self._callers.copy()}


def address_of(node_ip: str | None, peer: str | None) -> str:
    """Return the node that a request names, as it may come through a proxy, else the peer."""
    if node_ip and len(node_ip) <= MAX_ADDRESS and node_ip.isascii() and node_ip.isprintable():
        return node_ip
    return peer or "unknown"
