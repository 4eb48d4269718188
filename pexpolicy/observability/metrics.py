"""The definitions of the server's metrics.

Names follow Prometheus: a prefix, base units, ``_total`` after a counter. The values of labels are
endpoints, configured plugins and words of this program, so their number does not depend on callers.
"""

from __future__ import annotations

from pexpolicy.metrics import Definition

CALL_BOUNDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0),
)
"""Seconds. A table look-up takes a tenth of a millisecond; Infinity gives up after 5 seconds."""
LEFT_BOUNDS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5)
"""Seconds; the first bucket has the calls that used up their budget."""

REQUESTS = Definition(
    "counter",
    "pexpolicy_requests_total",
    "Calls that were answered, by the action of the reply and whether a plugin decided.",
    ("endpoint", "outcome"),
)
DURATION = Definition(
    "histogram",
    "pexpolicy_request_duration_seconds",
    "Time from the head of a request until its reply is ready to leave.",
    ("endpoint",),
    bounds=CALL_BOUNDS,
)
REMAINING = Definition(
    "histogram",
    "pexpolicy_budget_remaining_seconds",
    "Part of the budget that was left when the reply was ready.",
    bounds=LEFT_BOUNDS,
)
FALLBACK = Definition(
    "counter",
    "pexpolicy_fallback_total",
    "Calls answered although a plugin gave no usable answer, by its outcome.",
    ("endpoint", "cause"),
)
PLUGIN_CALLS = Definition(
    "counter",
    "pexpolicy_plugin_calls_total",
    "Steps of plugins, by outcome.",
    ("plugin", "outcome"),
)
PLUGIN_DURATION = Definition(
    "histogram",
    "pexpolicy_plugin_duration_seconds",
    "Time that a plugin took for one answer.",
    ("plugin",),
    bounds=CALL_BOUNDS,
)
BREAKER_OPEN = Definition(
    "gauge",
    "pexpolicy_plugin_breaker_open",
    "1 while the circuit breaker of a plugin is open in any worker.",
    ("plugin",),
    combine="max",
)
DATA_AGE = Definition(
    "gauge",
    "pexpolicy_data_age_seconds",
    "Age of the refreshed data of a plugin, in the worker where it is oldest.",
    ("plugin", "data"),
    combine="max",
)
DATA_INTERVAL = Definition(
    "gauge",
    "pexpolicy_data_interval_seconds",
    "Interval at which the data of a plugin is to be refreshed.",
    ("plugin", "data"),
    combine="max",
)
BACKGROUND_FAILURES = Definition(
    "gauge",
    "pexpolicy_plugin_background_failures",
    "Lifespans and background tasks of a plugin that have ended by a failure.",
    ("plugin",),
)
JOB_RUNS = Definition(
    "counter",
    "pexpolicy_job_runs_total",
    "Runs of the scheduled jobs of plugins, by what became of them.",
    ("plugin", "job", "outcome"),
)
OBSERVER_CALLS = Definition(
    "counter",
    "pexpolicy_observer_calls_total",
    "Decisions delivered to an observer or dropped, and attempts that failed or timed out.",
    ("plugin", "outcome"),
)
OBSERVER_PENDING = Definition(
    "gauge", "pexpolicy_observer_pending", "Decisions that wait for an observer.", ("plugin",)
)
SHADOW_DIFF = Definition(
    "counter",
    "pexpolicy_shadow_diff_total",
    "Calls that a shadow plugin would have answered differently.",
    ("plugin",),
)
REFUSED = Definition(
    "counter",
    "pexpolicy_refused_requests_total",
    "Requests refused before any plugin was asked, by the reason in the audit line.",
    ("reason",),
)
AUTH_FAILURES = Definition(
    "counter", "pexpolicy_auth_failures_total", "Requests without credentials, or with wrong ones."
)
AUDIT_RECORDS = Definition(
    "counter",
    "pexpolicy_audit_records_total",
    "Audit records: calls, refusals and shadow decisions.",
)
AUDIT_LOST = Definition(
    "counter", "pexpolicy_audit_lost_total", "Audit records that could not be written."
)
AUDIT_LAST_FSYNC = Definition(
    "gauge",
    "pexpolicy_audit_last_fsync_timestamp_seconds",
    "Time of the last fsync of the audit.",
    combine="max",
)
AUDIT_FREE = Definition(
    "gauge",
    "pexpolicy_audit_free_bytes",
    "Free space on the file system of the audit.",
    combine="min",
)
CONFIG_INFO = Definition(
    "gauge",
    "pexpolicy_config_info",
    "1 for the active configuration; two series mean that workers differ.",
    ("hash",),
    combine="max",
)
RELOAD_SUCCESSFUL = Definition(
    "gauge",
    "pexpolicy_config_last_reload_successful",
    "0 after a refused reload, until a configuration is activated.",
    combine="min",
)
RELOADED = Definition(
    "gauge",
    "pexpolicy_config_last_reload_success_timestamp_seconds",
    "Time at which the active configuration was activated.",
    combine="min",
)
CERTIFICATE = Definition(
    "gauge",
    "pexpolicy_tls_cert_not_after_timestamp_seconds",
    "End of validity of the certificate of the server.",
    combine="min",
)
LOOP_LAG = Definition(
    "gauge",
    "pexpolicy_loop_lag_seconds",
    "Maximum event loop lag over the last 30 to 60 s, of the worst worker.",
    combine="max",
)
READY = Definition(
    "gauge",
    "pexpolicy_ready",
    "1 while every worker is ready: configured, able to write its audit, not stopping.",
    combine="min",
)
CONNECTIONS = Definition("gauge", "pexpolicy_connections", "Open connections.")
WORKERS = Definition("gauge", "pexpolicy_workers", "Running worker processes.")

METRICS = {found.name: found for found in globals().values() if isinstance(found, Definition)}
"""The exported metrics by name."""
