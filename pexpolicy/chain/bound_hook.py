"""One plugin's place in a chain, and its answers that come at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from pexpolicy.chain.circuit_breaker import CircuitBreaker
from pexpolicy.models.outcome import ABSTAINED, DECIDED, Step

OnError = Literal["skip", "reject"]
QUICK = 100
"""Microseconds in which an answer is a quick one, as nearly all are."""
_NOWHERE = memoryview(bytearray(8 * QUICK)).cast("q")


class StepCounter:
    """The quick answers of one kind that one plugin gives.

    There are few that differ, so the step of each is made once. They are counted as they come, in
    a cell for each microsecond.
    """

    __slots__ = ("_of", "at", "cells", "steps")

    def __init__(self, plugin: str, outcome: str) -> None:
        self._of = plugin, outcome
        self.steps: list[Step | None] = [None] * QUICK
        """Their steps, by microseconds; ``None`` for one that was not needed yet."""
        self.bind_counters(_NOWHERE, 0)

    def bind_counters(self, cells: memoryview, at: int) -> None:
        """Count in ``QUICK`` other cells from now on, the first of which is ``cells[at]``."""
        self.cells, self.at = cells, at

    def first(self, us: int) -> Step:
        """The step of so many microseconds, which was not needed yet."""
        step = self.steps[us] = self.step(us)
        return step

    def step(self, us: int) -> Step:
        """A step of so many microseconds."""
        return Step(*self._of, us / 1000)


@dataclass(frozen=True, slots=True)
class BoundHook:
    """One plugin in a chain; ``ask`` gives its answer to a request. ``timeout`` in seconds."""

    plugin: str
    ask: Callable[[Any], Awaitable[Any]]
    timeout: float = 1.0
    on_error: OnError = "skip"
    breaker: CircuitBreaker | None = None
    names: tuple[str, str] = ("", "")
    """Plugin and hook, for whoever watches the event loop."""
    may_wait: bool = True
    """False where ``ask`` never waits, whatever it is asked."""
    abstained_steps: StepCounter = field(init=False)
    decided_steps: StepCounter = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "abstained_steps", StepCounter(self.plugin, ABSTAINED))
        object.__setattr__(self, "decided_steps", StepCounter(self.plugin, DECIDED))
