"""Every metric that there is: its name, what it says, its labels, and how workers add up.

Names follow Prometheus: a prefix, base units, ``_total`` behind a counter. The values of a label
are endpoints, plugins of the configuration and words of this program: there is a known number of
them, whatever callers send.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pexpolicy.chain.bound_hook import QUICK

NANO = 1_000_000_000
MICRO = 1_000_000
MILLI = 1_000

CALL_BOUNDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0),
)
"""Seconds. A call from a table takes a tenth of a millisecond; Infinity gives up at 5 seconds."""
LEFT_BOUNDS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5)
"""Seconds; the first bucket holds the calls whose budget was gone."""
BUCKETS = 1
"""The cell of the first bucket of a histogram, behind that of the sum."""


class MetricType(Enum):
    """The type of a metric, as Prometheus calls it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Aggregation(Enum):
    """What becomes of the values of several workers."""

    SUM = "sum"
    GREATEST = "greatest"
    LEAST = "least"


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """One metric. A cell of the board holds ``scale`` times its value, as a whole number.

    A histogram has a cell for the sum, one for each of ``bounds``, and one for all beyond.
    """

    name: str
    doc: str
    labels: tuple[str, ...] = ()
    kind: MetricType = MetricType.COUNTER
    aggregation: Aggregation = Aggregation.SUM
    scale: int = 1
    bounds: tuple[float, ...] = ()
    includes_zero: bool = True

    @property
    def cells(self) -> int:
        """How many cells a series of it takes."""
        return len(self.bounds) + 2 if self.kind is MetricType.HISTOGRAM else 1


REQUESTS = MetricDefinition(
    "pexpolicy_requests_total",
    "Calls that were answered, by what the answer asks of Infinity and whether a plugin decided.",
    ("endpoint", "outcome"),
)
DURATION = MetricDefinition(
    "pexpolicy_request_duration_seconds",
    "Time from the head of a request until its reply is ready to leave.",
    ("endpoint",),
    MetricType.HISTOGRAM,
    scale=NANO,
    bounds=CALL_BOUNDS,
)
REMAINING = MetricDefinition(
    "pexpolicy_deadline_remaining_seconds",
    "Part of the budget that was left when the reply was ready.",
    (),
    MetricType.HISTOGRAM,
    scale=NANO,
    bounds=LEFT_BOUNDS,
)
FALLBACK = MetricDefinition(
    "pexpolicy_fallback_total",
    "Calls that were answered without a plugin that should have been heard, by what kept it.",
    ("endpoint", "cause"),
)
PLUGIN_CALLS = MetricDefinition(
    "pexpolicy_plugin_calls_total",
    "Times that a plugin was asked, or skipped, by what came of it.",
    ("plugin", "outcome"),
)
PLUGIN_DURATION = MetricDefinition(
    "pexpolicy_plugin_duration_seconds",
    "Time that a plugin took for one answer.",
    ("plugin",),
    MetricType.HISTOGRAM,
    scale=NANO,
    bounds=CALL_BOUNDS,
)
PLUGIN_QUICK = MetricDefinition(
    "pexpolicy_plugin_quick_seconds",
    "Quick answers of a plugin, by what came of it: a part of the two above, shown in them.",
    ("plugin", "outcome"),
    MetricType.HISTOGRAM,
    scale=MICRO,
    bounds=tuple(us / MICRO for us in range(QUICK - 1)),
)
BREAKER_OPEN = MetricDefinition(
    "pexpolicy_plugin_breaker_open",
    "1 while the circuit breaker of a plugin keeps calls away from it, in any worker.",
    ("plugin",),
    MetricType.GAUGE,
    Aggregation.GREATEST,
)
SHADOW_DIFF = MetricDefinition(
    "pexpolicy_shadow_diff_total",
    "Calls that a shadow plugin would have answered in another way.",
    ("plugin",),
)
REFUSED = MetricDefinition(
    "pexpolicy_refused_requests_total",
    "Requests that did not get as far as the plugins, by the reason in the audit line.",
    ("reason",),
)
AUTH_FAILURES = MetricDefinition(
    "pexpolicy_auth_failures_total",
    "Requests without credentials, or with wrong ones.",
)
AUDIT_RECORDS = MetricDefinition(
    "pexpolicy_audit_records_total",
    "Records that were handed to the audit: calls, refusals and shadows.",
)
AUDIT_LOST = MetricDefinition(
    "pexpolicy_audit_lost_total",
    "Records of the audit that were not written anywhere.",
)
AUDIT_LAST_FSYNC = MetricDefinition(
    "pexpolicy_audit_last_fsync_timestamp_seconds",
    "When the audit was last forced onto the disk.",
    (),
    MetricType.GAUGE,
    Aggregation.GREATEST,
    MILLI,
)
AUDIT_FREE = MetricDefinition(
    "pexpolicy_audit_free_bytes",
    "Free space of the file system that the audit is on.",
    (),
    MetricType.GAUGE,
    Aggregation.LEAST,
)
CONFIG_INFO = MetricDefinition(
    "pexpolicy_config_info",
    "1 for the configuration that answers; two of them mean that the workers differ.",
    ("hash",),
    MetricType.GAUGE,
    Aggregation.GREATEST,
    includes_zero=False,
)
RELOAD_SUCCESSFUL = MetricDefinition(
    "pexpolicy_config_last_reload_successful",
    "0 when the last configuration that was offered was refused, and the one before it serves.",
    (),
    MetricType.GAUGE,
    Aggregation.LEAST,
)
RELOADED = MetricDefinition(
    "pexpolicy_config_last_reload_success_timestamp_seconds",
    "When the configuration that answers was taken up.",
    (),
    MetricType.GAUGE,
    Aggregation.LEAST,
    MILLI,
)
CERTIFICATE = MetricDefinition(
    "pexpolicy_tls_cert_not_after_timestamp_seconds",
    "When the certificate of the server ends.",
    (),
    MetricType.GAUGE,
    Aggregation.LEAST,
)
LOOP_LAG = MetricDefinition(
    "pexpolicy_loop_lag_seconds",
    "The longest time in the last 30 to 60 s that the event loop was late, of the worst worker.",
    (),
    MetricType.GAUGE,
    Aggregation.GREATEST,
    NANO,
)
READY = MetricDefinition(
    "pexpolicy_ready",
    "1 while every worker is ready: configured, able to write its audit, not told to stop.",
    (),
    MetricType.GAUGE,
    Aggregation.LEAST,
)
CONNECTIONS = MetricDefinition(
    "pexpolicy_connections",
    "Connections that are open now.",
    (),
    MetricType.GAUGE,
)
WORKERS = MetricDefinition(
    "pexpolicy_workers",
    "Processes that serve.",
    (),
    MetricType.GAUGE,
)

METRICS = {
    family.name: family
    for family in (
        *(REQUESTS, DURATION, REMAINING, FALLBACK),
        *(PLUGIN_CALLS, PLUGIN_DURATION, BREAKER_OPEN, SHADOW_DIFF),
        *(REFUSED, AUTH_FAILURES),
        *(AUDIT_RECORDS, AUDIT_LOST, AUDIT_LAST_FSYNC, AUDIT_FREE),
        *(CONFIG_INFO, RELOAD_SUCCESSFUL, RELOADED, CERTIFICATE),
        *(LOOP_LAG, READY, CONNECTIONS, WORKERS),
    )
}
"""Every metric by its name."""
STORED_METRICS = {**METRICS, PLUGIN_QUICK.name: PLUGIN_QUICK}
"""Everything that a board holds, by its name."""
