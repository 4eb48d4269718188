"""The log of failing plugins on standard error; the audit line has each step."""

from __future__ import annotations

import re

from pexpolicy.errors import LOG_INTERVAL_S, MAX_KINDS, ErrorReport, Log, RateLimit
from pexpolicy.models.outcome import BUSY, TIMED_OUT

MAX_TEXTS = 8
"""Texts of one exception at one place that are logged apart; they may hold what a caller sent."""
_VARYING = re.compile(r"[\w.:-]*\d[\w.:-]{3,}")
"""Numbers and addresses, by which texts are not told apart."""
_EVENTS = {TIMED_OUT: "plugin was late", BUSY: "plugin was busy"}


class PluginFailureLog:
    """Logs the failures of plugins in a hook; does nothing without a log.

    Each distinct failure is logged once an interval, with the ``times`` since its last line.
    """

    def __init__(self, log: Log | None, hook: str) -> None:
        self._log = log
        self._hook = hook
        self.is_full = bool(getattr(log, "is_debugging", False))
        """True where every failure is logged with its full traceback."""
        self._limit = RateLimit(0.0 if self.is_full else LOG_INTERVAL_S)
        self._texts: dict[tuple[str, ...], set[str]] = {}
        """The texts that are logged apart, for each kind of failure."""

    def failed(
        self, event: str, plugin: str, report: ErrorReport, now: float, **more: object
    ) -> None:
        """Log a failure, once an interval for each text and place."""
        if self._log is None:
            return
        if report.lines:
            more["traceback"] = report.traceback
        fields = self._set(more)
        kind = event, plugin, str(fields["hook"]), report.kind, report.place
        text = _VARYING.sub("#", report.summary.removesuffix(f" ({report.place})"))
        if len(self._texts) >= MAX_KINDS:
            self._texts.clear()
        texts = self._texts.setdefault(kind, set())
        if text not in texts and len(texts) >= MAX_TEXTS:
            text = f"{MAX_TEXTS} other texts"
        texts.add(text)
        if times := self._limit.admit((*kind, text), now):
            if times > 1:
                fields["times"] = times
            self._log.warning(event, plugin=plugin, error=report.summary, **fields)

    def step(self, plugin: str, outcome: str, detail: str, now: float, **more: object) -> None:
        """Log a plugin that was late or busy, once an interval: under load every call is."""
        if outcome in _EVENTS:
            self.failed(_EVENTS[outcome], plugin, ErrorReport(detail, []), now, **more)

    def breaker(self, plugin: str, what: str, **fields: object) -> None:
        """Log that the circuit breaker of a plugin opened or closed."""
        if self._log is not None:
            self._log.warning(f"circuit breaker {what}", plugin=plugin, **self._set(fields))

    def _set(self, fields: dict[str, object]) -> dict[str, object]:
        return {"hook": self._hook, **{key: one for key, one in fields.items() if one != ""}}
