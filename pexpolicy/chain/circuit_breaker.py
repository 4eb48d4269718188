"""The circuit breaker: a plugin that fails repeatedly is not asked for a while."""

from __future__ import annotations

from collections import deque


class CircuitBreaker:
    """Opens after ``failures`` failures within ``window`` seconds, for ``pause`` seconds.

    Then one call tries the plugin. If it succeeds, the breaker closes; otherwise another call tries
    after another pause. That call may be cancelled without an outcome, so nothing waits for it.
    Times are those of the caller's clock.
    """

    def __init__(self, failures: int = 5, window: float = 30.0, pause: float = 30.0) -> None:
        self._limit = failures
        self._window = window
        self.pause = pause
        """Seconds between two calls that try the plugin while the breaker is open."""
        self._failed: deque[float] = deque(maxlen=failures)
        self._opened: float | None = None
        """When it was opened, or the plugin was tried last."""
        self._since = 0.0

    @property
    def is_open(self) -> bool:
        """True while the plugin is not asked."""
        return self._opened is not None

    def state(self, now: float) -> dict[str, float] | None:
        """Return for how many seconds it is open, and in how many the plugin is tried."""
        if self._opened is None:
            return None
        waits = max(self._opened + self.pause - now, 0.0)
        return {"open_for": now - self._since, "next_attempt_in": waits}

    def allows_call(self, now: float) -> bool:
        """Return true when the plugin may be asked; while open, once after each pause."""
        if self._opened is None:
            return True
        if now - self._opened < self.pause:
            return False
        self._opened = now
        return True

    def record_success(self) -> bool:
        """Record an answer or an abstention; return true where that closes the breaker."""
        closes = self._opened is not None
        if closes:
            self._opened = None
            self._failed.clear()
        return closes

    def record_failure(self, now: float) -> bool:
        """Record a failure; return true where that opens the breaker."""
        if self._opened is not None:
            self._opened = now
            return False
        self._failed.append(now)
        if len(self._failed) == self._limit and now - self._failed[0] <= self._window:
            self._opened = self._since = now
        return self._opened is not None
