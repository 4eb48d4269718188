"""The log of failing plugins on standard error; the audit line has each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pexpolicy.models.outcome import BUSY, TIMED_OUT

if TYPE_CHECKING:
    from pexpolicy.errors import ErrorReport, Log

LOG_INTERVAL_S = 60.0
"""Between two lines about the same failure of a plugin; the calls in between are counted."""
MAX_KINDS = 256
"""Pairs of plugin and kind of failure that are counted apart."""
_EVENTS = {TIMED_OUT: "plugin was late", BUSY: "plugin was busy"}


class PluginFailureLog:
    """Logs the failures of the plugins of one hook; does nothing without a log."""

    def __init__(self, log: Log | None, hook: str) -> None:
        self._log = log
        self._hook = hook
        self._last: dict[tuple[str, str, str], tuple[float, int]] = {}

    def failed(
        self, event: str, plugin: str, report: ErrorReport, now: float, **more: object
    ) -> None:
        """Log an exception or an invalid decision, once an interval for each kind."""
        fields = {"traceback": report.traceback} if report.lines else {}
        self._warn(event, plugin, report.kind, now, error=report.summary, **fields, **more)

    def step(self, plugin: str, outcome: str, detail: str, now: float) -> None:
        """Log a plugin that was late or busy, once an interval: under load every call is."""
        event = _EVENTS.get(outcome)
        if event is not None:
            self._warn(event, plugin, "", now, error=detail)

    def breaker(self, plugin: str, event: str, **fields: object) -> None:
        """Log that the circuit breaker of a plugin opened or closed."""
        if self._log is not None:
            self._log.warning(event, plugin=plugin, hook=self._hook, **fields)

    def _warn(self, event: str, plugin: str, kind: str, now: float, **fields: object) -> None:
        if self._log is None:
            return
        key = plugin, event, kind
        logged_at, skipped = self._last.get(key, (None, 0))
        if logged_at is not None and now - logged_at < LOG_INTERVAL_S:
            self._last[key] = logged_at, skipped + 1
            return
        if len(self._last) >= MAX_KINDS:
            self._last.clear()
        self._last[key] = now, 0
        counted = {"times": skipped + 1} if skipped else {}
        self._log.warning(event, plugin=plugin, hook=self._hook, **fields, **counted)
