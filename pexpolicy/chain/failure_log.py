"""What standard error says of plugins that were not heard; the audit line has each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pexpolicy.models.outcome import BUSY, TIMED_OUT

if TYPE_CHECKING:
    from pexpolicy.errors import ErrorReport, Log

AT_MOST_EACH = 60.0
"""Seconds between two lines about a plugin that is late or busy; the calls between are counted."""
_SAID = {TIMED_OUT: "plugin was late", BUSY: "plugin was busy"}


class PluginFailureLog:
    """Tells the log of the plugins of one hook. Without a log it says nothing."""

    def __init__(self, log: Log | None, hook: str) -> None:
        self._log = log
        self._hook = hook
        self._last: dict[tuple[str, str], tuple[float, int]] = {}

    def fault(self, event: str, plugin: str, fault: ErrorReport) -> None:
        """A plugin raised, or made a decision that Infinity would drop."""
        if self._log is not None:
            self._log.warning(
                event,
                plugin=plugin,
                hook=self._hook,
                error=fault.summary,
                traceback=fault.lines,
            )

    def step(self, plugin: str, outcome: str, detail: str, now: float) -> None:
        """A plugin was late or busy: under load that is every call, and one line a minute."""
        event = _SAID.get(outcome)
        if event is None or self._log is None:
            return
        before, more = self._last.get((plugin, event), (None, 0))
        if before is not None and now - before < AT_MOST_EACH:
            self._last[plugin, event] = before, more + 1
            return
        self._last[plugin, event] = now, 0
        counted = {"times": more + 1} if more else {}
        self._log.warning(event, plugin=plugin, hook=self._hook, error=detail, **counted)

    def breaker(self, plugin: str, event: str, **fields: object) -> None:
        """The circuit breaker of a plugin has opened or closed."""
        if self._log is not None:
            self._log.warning(event, plugin=plugin, hook=self._hook, **fields)
