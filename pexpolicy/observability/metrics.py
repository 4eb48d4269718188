"""The definitions of the server's metrics, and the merge of what several processes have counted.

Names follow Prometheus: a prefix, base units, ``_total`` after a counter. The values of labels are
endpoints, configured plugins and words of this program, so their number does not depend on callers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

import msgspec

from pexpolicy.plugins.metrics import Combine, Definition, Series

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CALL_BOUNDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0),
)
"""Seconds. A table look-up takes a tenth of a millisecond; Infinity gives up after 5 seconds."""
LEFT_BOUNDS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5)
"""Seconds; the first bucket has the calls that used up their budget."""


def _counter(name: str, text: str, labels: str = "") -> Definition:
    return Definition("counter", name, text, tuple(labels.split()))


def _gauge(name: str, text: str, labels: str = "", combine: Combine = "sum") -> Definition:
    return Definition("gauge", name, text, tuple(labels.split()), combine=combine)


_highest, _lowest = partial(_gauge, combine="max"), partial(_gauge, combine="min")
"""Gauges whose value is that of the worst worker."""


def _histogram(name: str, bounds: tuple[float, ...], text: str, labels: str = "") -> Definition:
    return Definition("histogram", name, text, tuple(labels.split()), bounds)


REQUESTS = _counter(
    "pexpolicy_requests_total",
    "Calls that were answered, by the action of the reply and whether a plugin decided.",
    "endpoint outcome",
)
ENVIRONMENT_REQUESTS = _counter(
    "pexpolicy_environment_requests_total",
    "Calls that were answered, by the environment that asked; - for those of none.",
    "environment outcome",
)
DURATION = _histogram(
    "pexpolicy_request_duration_seconds",
    CALL_BOUNDS,
    "Time from the head of a request until its reply is ready to leave.",
    "endpoint",
)
REMAINING = _histogram(
    "pexpolicy_budget_remaining_seconds",
    LEFT_BOUNDS,
    "Part of the budget that was left when the reply was ready.",
)
FALLBACK = _counter(
    "pexpolicy_fallback_total",
    "Calls answered although a plugin gave no usable answer, by its outcome.",
    "endpoint cause",
)
PLUGIN_CALLS = _counter(
    "pexpolicy_plugin_calls_total", "Steps of plugins, by outcome.", "plugin outcome"
)
PLUGIN_DURATION = _histogram(
    "pexpolicy_plugin_duration_seconds",
    CALL_BOUNDS,
    "Time that a plugin took for one answer.",
    "plugin",
)
BREAKER_OPEN = _highest(
    "pexpolicy_plugin_breaker_open",
    "1 while the circuit breaker of a plugin is open in any worker.",
    "plugin",
)
DATA_AGE = _highest(
    "pexpolicy_data_age_seconds",
    "Age of the refreshed data of a plugin, in the worker where it is oldest.",
    "plugin data",
)
DATA_INTERVAL = _highest(
    "pexpolicy_data_interval_seconds",
    "Interval at which the data of a plugin is to be refreshed.",
    "plugin data",
)
UNKNOWN_NAMES = _gauge(
    "pexpolicy_infinity_unknown_names",
    "Names in static decisions that are unknown to Infinity, as its API says.",
    "kind",
    combine="max",
)
BACKGROUND_FAILURES = _gauge(
    "pexpolicy_plugin_background_failures",
    "Lifespans and background tasks of a plugin that have ended by a failure.",
    "plugin",
)
SHARED_OPERATIONS = _counter(
    "pexpolicy_shared_operations_total",
    "Operations on shared state, by what became of them; refused ones were not tried.",
    "outcome",
)
SHARED_AVAILABLE = _lowest(
    "pexpolicy_shared_available",
    "0 while shared state fails in any worker, and plugins that need it do.",
)
JOB_RUNS = _counter(
    "pexpolicy_job_runs_total",
    "Runs of the scheduled jobs of plugins, by what became of them.",
    "plugin job outcome",
)
OBSERVER_CALLS = _counter(
    "pexpolicy_observer_calls_total",
    "Decisions delivered to an observer or dropped, and attempts that failed or timed out.",
    "plugin outcome",
)
OBSERVER_PENDING = _gauge(
    "pexpolicy_observer_pending", "Decisions that wait for an observer.", "plugin"
)
SHADOW_DIFF = _counter(
    "pexpolicy_shadow_diff_total",
    "Calls that a shadow plugin would have answered differently.",
    "plugin",
)
REFUSED = _counter(
    "pexpolicy_refused_requests_total",
    "Requests refused before any plugin was asked, by the reason in the audit line.",
    "reason",
)
AUTH_FAILURES = _counter(
    "pexpolicy_auth_failures_total", "Requests without credentials, or with wrong ones."
)
AUDIT_RECORDS = _counter(
    "pexpolicy_audit_records_total", "Audit records: calls, refusals and shadow decisions."
)
AUDIT_LOST = _counter("pexpolicy_audit_lost_total", "Audit records that could not be written.")
AUDIT_LAST_FSYNC = _highest(
    "pexpolicy_audit_last_fsync_timestamp_seconds", "Time of the last fsync of the audit."
)
AUDIT_FREE = _lowest("pexpolicy_audit_free_bytes", "Free space on the file system of the audit.")
AUDIT_SHIP_LAG = _highest(
    "pexpolicy_audit_ship_lag_seconds",
    "Age of the oldest audit line that may not be in the database of [audit.ship] yet.",
)
AUDIT_REMOVED_UNSHIPPED = _counter(
    "pexpolicy_audit_removed_unshipped_total",
    "Rotated files of the audit that were removed before they were in the database.",
)
BUILD_INFO = _highest(
    "pexpolicy_build_info",
    "1 for the version of the server and the active policy; two series: workers differ.",
    "version policy_hash",
)
RELOAD_SUCCESSFUL = _lowest(
    "pexpolicy_config_last_reload_successful",
    "0 after a refused reload, until a configuration is activated.",
)
RELOADED = _lowest(
    "pexpolicy_config_last_reload_success_timestamp_seconds",
    "Time at which the active configuration was activated.",
)
DEGRADED = _highest(
    "pexpolicy_degraded",
    "1 while the server decides by files that it has kept, and not by the present ones.",
)
CONFIG_KEPT = _lowest(
    "pexpolicy_config_kept",
    "0 while the active configuration is not kept on disk: a restart with broken files fails.",
)
BUNDLE_REFUSED = _highest(
    "pexpolicy_bundle_refused",
    "1 while the bundle at the URL of [bundle] is refused or not there, and the present one stays.",
)
CERTIFICATE = _lowest(
    "pexpolicy_tls_cert_not_after_timestamp_seconds",
    "End of validity of the certificate of the server.",
)
LOOP_LAG = _highest(
    "pexpolicy_loop_lag_seconds", "Maximum event loop lag over the last 60 s, of the worst worker."
)
READY = _lowest(
    "pexpolicy_ready",
    "1 while every worker is ready: configured, able to write its audit, not stopping.",
)
CONNECTIONS = _gauge("pexpolicy_connections", "Open connections.")
WORKERS = _gauge("pexpolicy_workers", "Running worker processes.")
EVENTS = _counter(
    "pexpolicy_events_total",
    "Events of nodes by name, and whether plugins got them, or they were repeated or dropped.",
    "event result",
)
EVENT_REMARKS = _counter(
    "pexpolicy_event_remarks_total",
    "Messages and events of nodes that could not be used as they were sent, by reason.",
    "reason",
)
EVENTS_MISSING = _counter(
    "pexpolicy_events_missing_total", "Numbers of events that were left out in the series of nodes."
)
EVENTS_WAITING = _highest("pexpolicy_events_waiting", "Events that plugins have not got yet.")
EVENT_AGE = _lowest(
    "pexpolicy_event_age_seconds",
    "Time since the last event of a node; a quiet platform sends none.",
    "source node",
)
EVENT_LAG = _highest(
    "pexpolicy_event_lag_seconds",
    "Time from sending to receiving the last event of a node.",
    "source node",
)
EVENTS_STALE = _highest("pexpolicy_events_stale", "1 while events are missing.", "source node")

METRICS = {found.name: found for found in globals().values() if isinstance(found, Definition)}
"""The exported metrics by name."""


MAX_NODES = 1000
"""Nodes of a process; further ones take the place of those that were silent longest."""
_COMBINE: dict[Combine, Callable[[Iterable[float]], float]] = {"sum": sum, "max": max, "min": min}


class Family(msgspec.Struct, array_like=True):
    """The samples of one metric."""

    name: str
    """Without the ending of a counter."""
    definition: Definition
    samples: dict[tuple[str, ...], float] = {}
    """By the name of the sample and the values of its labels, ``le`` last."""

    def add(self, key: tuple[str, ...], value: float) -> None:
        """Combine a value with that of another process."""
        if (before := self.samples.get(key)) is not None:
            value = _COMBINE[self.definition.combine]((before, value))
        self.samples[key] = value

    def add_times(self, labels: tuple[str, ...], counts: Sequence[int], total: float) -> None:
        """Add to a series of a histogram: the count of each bucket alone, and the sum of times."""
        buckets = accumulate(counts)
        for key in self.samples:
            if key[1 : len(labels) + 1] == labels:
                if key[0].endswith("_bucket"):
                    self.add(key, next(buckets))
                else:
                    self.add(key, total if key[0].endswith("_sum") else sum(counts))


class Node(msgspec.Struct, array_like=True):
    """The calls of one Conferencing Node. Times are seconds of the Unix epoch; 0 means never."""

    address: str
    last_call: float = 0.0
    calls: int = 0
    last_refused: float = 0.0
    refused_because: str = ""


class Snapshot(msgspec.Struct, array_like=True):
    """The metrics and nodes of one process, or of several."""

    families: dict[str, Family] = {}
    nodes: dict[str, Node] = {}

    def add(self, other: Snapshot, *, is_running: bool = True) -> None:
        """Add what another process has counted, without gauges if it has ended.

        Of two definitions of one name, such as before and after a reload, the last one stays.
        """
        for name, family in other.families.items():
            known = self.families.get(name)
            if known is None or known.definition.labels != family.definition.labels:
                known = self.families[name] = Family(family.name, family.definition, {})
            if is_running or family.definition.kind != "gauge":
                for key, value in family.samples.items():
                    known.add(key, value)
        for address, node in other.nodes.items():
            before = self.nodes.get(address, Node(address))
            refused = max((one.last_refused, one.refused_because) for one in (before, node))
            last_call = max(before.last_call, node.last_call)
            self.nodes[address] = Node(address, last_call, before.calls + node.calls, *refused)
        self.nodes = last_nodes(self.nodes.values())

    def value(self, definition: Definition, *labels: str) -> float | None:
        """Return the value of a counter or gauge; ``None`` if it has none."""
        return self.families[definition.name].samples.get((definition.name, *labels))

    def by_last_label(self, definition: Definition, *before: str) -> dict[str, int]:
        """Return the non-zero values of a counter with these first labels, by the last label."""
        return {
            last: int(value)
            for (_, *first, last), value in self.families[definition.name].samples.items()
            if tuple(first) == before and value
        }

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as ``prometheus_client`` exposes them."""
        from prometheus_client.core import Metric  # noqa: PLC0415 - the supervisor does without

        for family in self.families.values():
            definition = family.definition
            metric = Metric(family.name, definition.help, definition.kind)
            for (name, *values), value in family.samples.items():
                names = zip((*definition.labels, "le"), values, strict=False)
                metric.add_sample(name, dict(names), value)
            yield metric


def last_nodes(nodes: Iterable[Node]) -> dict[str, Node]:
    """Return the last nodes by address, the longest silent first.

    Addresses that were only refused go before others: anyone can send from thousands.
    """
    found = sorted(nodes, key=lambda node: (node.last_call, node.last_refused, node.address))
    return {node.address: node for node in found[-MAX_NODES:]}


def family_of(series: Series) -> Family:
    """Return the samples of a metric."""
    (found,) = series.metric.collect()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for sample in found.samples
        if sample.name != f"{found.name}_created"
    }
    return Family(found.name, series.definition, samples)


def expose(snapshot: Snapshot) -> bytes:
    """Return the text that Prometheus scrapes."""
    from prometheus_client import generate_latest  # noqa: PLC0415 - as above

    return generate_latest(snapshot)


CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The format that every version of Prometheus reads."""
