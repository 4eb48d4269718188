"""One plugin's place in a chain, and the counters of its quick answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Literal

from pexpolicy.chain.circuit_breaker import CircuitBreaker
from pexpolicy.models.outcome import (
    ABSTAINED,
    ADJUSTED,
    BUSY,
    DECIDED,
    FAILED,
    INVALID,
    SKIPPED,
    TIMED_OUT,
    Step,
)

OnError = Literal["skip", "reject"]
REJECT_REASONS = {
    FAILED: "failed, and its on_error is reject",
    TIMED_OUT: "was late, and its on_error is reject",
    INVALID: "gave an invalid answer, and its on_error is reject",
    BUSY: "was busy, and its on_error is reject",
    SKIPPED: "was not asked, and its on_error is reject",
}
"""The end of the reason of a reject that follows a failed step, after the name of the plugin."""
QUICK = 100
"""Microseconds below which an answer is quick, as nearly all are."""


class StepCounter:
    """The quick answers of one kind from one plugin, counted by their microseconds."""

    __slots__ = ("cells", "hook", "outcome", "plugin")

    def __init__(self, plugin: str, outcome: str, hook: str = "") -> None:
        self.plugin, self.outcome, self.hook = plugin, outcome, hook
        self.cells = [0] * QUICK
        """How many took each microsecond."""

    def step(self, us: int) -> Step:
        """Return a step of ``us`` microseconds."""
        return Step(self.plugin, self.outcome, us / 1000, "", self.hook)


@dataclass(slots=True, eq=False)
class BoundHook:
    """One plugin in a chain; ``ask`` returns its answer to a request. ``timeout`` in seconds."""

    plugin: str
    ask: Callable[[Any], Awaitable[Any]]
    timeout: float = 1.0
    on_error: OnError = "skip"
    breaker: CircuitBreaker | None = None
    names: tuple[str, str] = ("", "")
    """Plugin and hook, for the watchdog of the event loop."""
    may_wait: bool = True
    """False where ``ask`` never waits, whatever the request."""
    adjusts: bool = False
    """True for a hook that adjusts or restricts decisions: ``ask`` takes a ``Draft``."""
    hook: str = field(init=False)
    """The hook that its steps name: empty for that of the endpoint."""
    abstained_steps: StepCounter = field(init=False)
    decided_steps: StepCounter = field(init=False)

    def __post_init__(self) -> None:
        self.hook, answered = (self.names[1], ADJUSTED) if self.adjusts else ("", DECIDED)
        self.abstained_steps = StepCounter(self.plugin, ABSTAINED, self.hook)
        self.decided_steps = StepCounter(self.plugin, answered, self.hook)


def group_ends(links: tuple[BoundHook, ...], borders: Collection[int]) -> tuple[int, ...]:
    """Return for each hook the index of the first one after it that runs in another task, or the
    border before it: one of the indexes at which hooks of another kind begin.
    """
    ends = list(range(1, len(links) + 1))
    for at in reversed(range(len(links) - 1)):
        if at + 1 not in borders and not links[at].may_wait and not links[at + 1].may_wait:
            ends[at] = ends[at + 1]
    return tuple(ends)
