"""The metrics: name, description, labels, and aggregation over workers.

Names follow Prometheus: a prefix, base units, ``_total`` after a counter. The values of labels are
endpoints, configured plugins and words of this program, so their number does not depend on callers.
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
"""Seconds. A table look-up takes a tenth of a millisecond; Infinity gives up after 5 seconds."""
LEFT_BOUNDS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5)
"""Seconds; the first bucket has the calls that used up their budget."""
BUCKETS = 1
"""The position of the first bucket of a histogram, after the cell of the sum."""


class MetricType(Enum):
    """The type of a metric in Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Aggregation(Enum):
    """How the values of several workers are combined."""

    SUM = "sum"
    GREATEST = "greatest"
    LEAST = "least"


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """One metric. A cell holds its value times ``scale``, as an integer; or as a float, where
    ``is_float`` is true, as in the metrics of plugins.

    A histogram has a cell for the sum, one for each of ``bounds``, and one for larger values.
    """

    name: str
    doc: str
    labels: tuple[str, ...] = ()
    kind: MetricType = MetricType.COUNTER
    aggregation: Aggregation = Aggregation.SUM
    scale: int = 1
    bounds: tuple[float, ...] = ()
    includes_zero: bool = True
    is_float: bool = False

    @property
    def cells(self) -> int:
        """The number of cells of a series."""
        return len(self.bounds) + 2 if self.kind is MetricType.HISTOGRAM else 1


REQUESTS = MetricDefinition(
    "pexpolicy_requests_total",
    "Calls that were answered, by the action of the reply and whether a plugin decided.",
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
    "pexpolicy_budget_remaining_seconds",
    "Part of the budget that was left when the reply was ready.",
    (),
    MetricType.HISTOGRAM,
    scale=NANO,
    bounds=LEFT_BOUNDS,
)
FALLBACK = MetricDefinition(
    "pexpolicy_fallback_total",
    "Calls answered although a plugin gave no usable answer, by its outcome.",
    ("endpoint", "cause"),
)
PLUGIN_CALLS = MetricDefinition(
    "pexpolicy_plugin_calls_total",
    "Steps of plugins, by outcome.",
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
    "Quick answers of a plugin, by outcome; they are added to the two metrics above.",
    ("plugin", "outcome"),
    MetricType.HISTOGRAM,
    scale=MICRO,
    bounds=tuple(us / MICRO for us in range(QUICK - 1)),
)
BREAKER_OPEN = MetricDefinition(
    "pexpolicy_plugin_breaker_open",
    "1 while the circuit breaker of a plugin is open in any worker.",
    ("plugin",),
    MetricType.GAUGE,
    Aggregation.GREATEST,
)
DATA_AGE = MetricDefinition(
    "pexpolicy_data_age_seconds",
    "Age of the refreshed data of a plugin, in the worker where it is oldest.",
    ("plugin", "data"),
    MetricType.GAUGE,
    Aggregation.GREATEST,
    MILLI,
    includes_zero=False,
)
DATA_INTERVAL = MetricDefinition(
    "pexpolicy_data_interval_seconds",
    "Interval at which the data of a plugin is to be refreshed.",
    ("plugin", "data"),
    MetricType.GAUGE,
    Aggregation.GREATEST,
    MILLI,
    includes_zero=False,
)
BACKGROUND_FAILURES = MetricDefinition(
    "pexpolicy_plugin_background_failures",
    "Lifespans and background tasks of a plugin that have ended by a failure.",
    ("plugin",),
    MetricType.GAUGE,
)
JOB_RUNS = MetricDefinition(
    "pexpolicy_job_runs_total",
    "Runs of the scheduled jobs of plugins, by what became of them.",
    ("plugin", "job", "outcome"),
)
OBSERVER_CALLS = MetricDefinition(
    "pexpolicy_observer_calls_total",
    "Decisions delivered to an observer or dropped, and attempts that failed or timed out.",
    ("plugin", "outcome"),
)
OBSERVER_PENDING = MetricDefinition(
    "pexpolicy_observer_pending",
    "Decisions that wait for an observer.",
    ("plugin",),
    MetricType.GAUGE,
)
SHADOW_DIFF = MetricDefinition(
    "pexpolicy_shadow_diff_total",
    "Calls that a shadow plugin would have answered differently.",
    ("plugin",),
)
REFUSED = MetricDefinition(
    "pexpolicy_refused_requests_total",
    "Requests refused before any plugin was asked, by the reason in the audit line.",
    ("reason",),
)
AUTH_FAILURES = MetricDefinition(
    "pexpolicy_auth_failures_total",
    "Requests without credentials, or with wrong ones.",
)
AUDIT_RECORDS = MetricDefinition(
    "pexpolicy_audit_records_total",
    "Audit records: calls, refusals and shadow decisions.",
)
AUDIT_LOST = MetricDefinition(
    "pexpolicy_audit_lost_total",
    "Audit records that could not be written.",
)
AUDIT_LAST_FSYNC = MetricDefinition(
    "pexpolicy_audit_last_fsync_timestamp_seconds",
    "Time of the last fsync of the audit.",
    (),
    MetricType.GAUGE,
    Aggregation.GREATEST,
    MILLI,
)
AUDIT_FREE = MetricDefinition(
    "pexpolicy_audit_free_bytes",
    "Free space on the file system of the audit.",
    (),
    MetricType.GAUGE,
    Aggregation.LEAST,
)
CONFIG_INFO = MetricDefinition(
    "pexpolicy_config_info",
    "1 for the active configuration; two series mean that workers differ.",
    ("hash",),
    MetricType.GAUGE,
    Aggregation.GREATEST,
    includes_zero=False,
)
RELOAD_SUCCESSFUL = MetricDefinition(
    "pexpolicy_config_last_reload_successful",
    "0 after a refused reload, until a configuration is activated.",
    (),
    MetricType.GAUGE,
    Aggregation.LEAST,
)
RELOADED = MetricDefinition(
    "pexpolicy_config_last_reload_success_timestamp_seconds",
    "Time at which the active configuration was activated.",
    (),
    MetricType.GAUGE,
    Aggregation.LEAST,
    MILLI,
)
CERTIFICATE = MetricDefinition(
    "pexpolicy_tls_cert_not_after_timestamp_seconds",
    "End of validity of the certificate of the server.",
    (),
    MetricType.GAUGE,
    Aggregation.LEAST,
)
LOOP_LAG = MetricDefinition(
    "pexpolicy_loop_lag_seconds",
    "Maximum event loop lag over the last 30 to 60 s, of the worst worker.",
    (),
    MetricType.GAUGE,
    Aggregation.GREATEST,
    NANO,
)
READY = MetricDefinition(
    "pexpolicy_ready",
    "1 while every worker is ready: configured, able to write its audit, not stopping.",
    (),
    MetricType.GAUGE,
    Aggregation.LEAST,
)
CONNECTIONS = MetricDefinition(
    "pexpolicy_connections",
    "Open connections.",
    (),
    MetricType.GAUGE,
)
WORKERS = MetricDefinition(
    "pexpolicy_workers",
    "Running worker processes.",
    (),
    MetricType.GAUGE,
)

METRICS = {
    family.name: family
    for family in (
        *(REQUESTS, DURATION, REMAINING, FALLBACK),
        *(
            PLUGIN_CALLS,
            PLUGIN_DURATION,
            BREAKER_OPEN,
            OBSERVER_CALLS,
            OBSERVER_PENDING,
            SHADOW_DIFF,
        ),
        *(DATA_AGE, DATA_INTERVAL, BACKGROUND_FAILURES, JOB_RUNS),
        *(REFUSED, AUTH_FAILURES),
        *(AUDIT_RECORDS, AUDIT_LOST, AUDIT_LAST_FSYNC, AUDIT_FREE),
        *(CONFIG_INFO, RELOAD_SUCCESSFUL, RELOADED, CERTIFICATE),
        *(LOOP_LAG, READY, CONNECTIONS, WORKERS),
    )
}
"""The exported metrics by name."""
STORED_METRICS = {**METRICS, PLUGIN_QUICK.name: PLUGIN_QUICK}
"""The metrics in shared memory by name."""
