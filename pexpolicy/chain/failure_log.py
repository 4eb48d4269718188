"""The log of failing plugins on standard error; the audit line has each step."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from pexpolicy.errors import LOG_INTERVAL_S, MAX_KINDS, RateLimit
from pexpolicy.models.outcome import BUSY, TIMED_OUT

if TYPE_CHECKING:
    from pexpolicy.errors import ErrorReport, Log

MAX_TEXTS = 8
"""Texts of one exception at one place that are logged apart; they may hold what a caller sent."""
_VARYING = re.compile(r"[\w.:-]*\d[\w.:-]{3,}")
"""Numbers and addresses, by which texts are not told apart."""
_EVENTS = {TIMED_OUT: "plugin was late", BUSY: "plugin was busy"}


class PluginFailureLog:
    """Logs the failures of plugins in a hook; does nothing without a log.

    Each distinct failure is logged once an interval. Those in between are counted in ``times`` of
    the next line, or of a line of their own when the interval is over.
    """

    def __init__(self, log: Log | None, hook: str) -> None:
        self._log = log
        self._hook = hook
        self.is_full = bool(getattr(log, "is_debugging", False))
        """True where every failure is logged with its full traceback."""
        interval = 0.0 if self.is_full else LOG_INTERVAL_S
        self._limit = RateLimit(interval)
        self._texts: dict[tuple[str, str, str, str], set[str]] = {}
        """The texts of this interval that are logged apart, for each kind of failure."""
        self._timer: asyncio.TimerHandle | None = None

    def failed(
        self, event: str, plugin: str, report: ErrorReport, now: float, **more: object
    ) -> None:
        """Log an exception or an invalid decision, once an interval for each text and place."""
        if report.lines:
            more["traceback"] = report.traceback
        text = report.summary.removesuffix(f" ({report.place})")
        self._warn((event, plugin, report.kind, report.place), text, now, report.summary, **more)

    def step(self, plugin: str, outcome: str, detail: str, now: float, **more: object) -> None:
        """Log a plugin that was late or busy, once an interval: under load every call is."""
        if outcome in _EVENTS:
            self._warn((_EVENTS[outcome], plugin, "", ""), detail, now, detail, **more)

    def breaker(self, plugin: str, what: str, **fields: object) -> None:
        """Log that the circuit breaker of a plugin opened or closed."""
        if self._log is not None:
            self._log.warning(f"circuit breaker {what}", plugin=plugin, **self._set(fields))

    def close(self) -> None:
        """Log what was left out since the last lines."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for (event, plugin, hook, error, place), times in self._limit.take_left_out().items():
            where = f" ({place})" if place else ""
            assert self._log is not None
            text = f"{error} again{where}"
            self._log.warning(event, plugin=plugin, hook=hook, error=text, times=times)
        self._texts.clear()

    def _set(self, fields: dict[str, object]) -> dict[str, object]:
        return {"hook": self._hook, **{key: one for key, one in fields.items() if one != ""}}

    def _warn(
        self, kind: tuple[str, str, str, str], text: str, now: float, error: str, **fields: object
    ) -> None:
        if self._log is None:
            return
        event, plugin, name, place = kind
        fields = self._set(fields)
        hook, text = str(fields["hook"]), _VARYING.sub("#", text)
        if len(self._texts) >= MAX_KINDS:
            self._texts.clear()
        texts = self._texts.setdefault((plugin, hook, name, place), set())
        if text not in texts and len(texts) >= MAX_TEXTS:
            text = f"{name}, {MAX_TEXTS} other texts"
        texts.add(text)
        if times := self._limit.admit((event, plugin, hook, text, place), now):
            counted = {"times": times} if times > 1 else {}
            self._log.warning(event, plugin=plugin, error=error, **fields, **counted)
        elif self._timer is None:
            with suppress(RuntimeError):  # no event loop
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(LOG_INTERVAL_S, self.close)
