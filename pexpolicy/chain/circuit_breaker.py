"""A circuit breaker: a plugin that fails again and again is left alone for a while."""

from __future__ import annotations

from collections import deque


class CircuitBreaker:
    """Opens after ``failures`` failures within ``window`` seconds, for ``pause`` seconds.

    Then one call tries the plugin: the breaker closes when that succeeds, and else another call
    tries after another pause. A call that tries may be cancelled without an outcome, so nothing
    waits for one. Times are those of the clock that the caller reads.
    """

    def __init__(self, failures: int, window: float, pause: float) -> None:
        self._limit = failures
        self._window = window
        self._pause = pause
        self._failed: deque[float] = deque(maxlen=failures)
        self._opened: float | None = None

    @property
    def pause(self) -> float:
        """Seconds for which the plugin is left alone."""
        return self._pause

    @property
    def is_open(self) -> bool:
        """True while calls are kept away from the plugin."""
        return self._opened is not None

    def allows_call(self, now: float) -> bool:
        """True when the plugin may be asked; while the breaker is open, once after each pause."""
        if self._opened is None:
            return True
        if now - self._opened < self._pause:
            return False
        self._opened = now
        return True

    def record_success(self) -> bool:
        """Note an answer, or an abstention; true where that closes it."""
        closes = self._opened is not None
        if closes:
            self._opened = None
            self._failed.clear()
        return closes

    def record_failure(self, now: float) -> bool:
        """Note a failure; true where that opens it."""
        if self._opened is not None:
            self._opened = now
            return False
        self._failed.append(now)
        if len(self._failed) == self._limit and now - self._failed[0] <= self._window:
            self._opened = now
        return self._opened is not None
