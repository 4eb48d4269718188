"""Refusals that are folded: few lines on record for many of them.

A client without credentials can be refused thousands of times a second, and must not fill the disk,
nor drive decisions out of the files that are kept. So the first refusals of a peer and reason have
a line each, further ones share a line with their number (``times``), and all of these lines
together have a budget of bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from typing import Protocol

from pexpolicy.access.throttle import network_of, origin

SINGLE = 5
"""Refusals of the same peer and reason that have a line each."""
PAUSE = 1.0
"""Seconds until the first line that others share; each further one takes twice as long."""
LONGEST_PAUSE = 10.0
"""Seconds between two lines at most. A peer that was quiet for so long is forgotten."""
MAX_PEERS = 1024
"""Pairs of reason and peer that are counted apart; further ones are written without a peer."""
RATE = 2048
"""Bytes a second for the lines of refusals: 177 MB a day, whoever sends whatever."""
SAVED = 1 << 17
"""Bytes that are saved up while there are few refusals."""
LINE = 400
"""Bytes of a line without the facts that not every one has, chain included."""

Key = tuple[str, int, str | None]
"""Reason, status and peer."""


class Write(Protocol):
    """Writes the audit line of refusals."""

    def __call__(self, reason: str, status: int, peer: str | None, **facts: object) -> None:
        """Write it."""


class Budget:
    """Bytes that may be written: ``rate`` a second, and at most ``saved`` at once."""

    def __init__(
        self, rate: float = RATE, saved: float = SAVED, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._saved = saved
        self._clock = clock
        self._left = saved
        self._at = clock()

    def take(self, size: int) -> bool:
        """Take so many bytes; false, and none is taken, where there are not enough."""
        now = self._clock()
        self._left = min(self._left + (now - self._at) * self._rate, self._saved)
        self._at = now
        if self._left < size:
            return False
        self._left -= size
        return True


@dataclass(slots=True)
class _Burst:
    """The refusals of one key that share the next line."""

    peer: str | None = None
    singles: int = 0
    times: int = 0
    facts: dict[str, object] = field(default_factory=dict)
    """What is true of all of them."""
    pause: float = PAUSE
    timer: asyncio.TimerHandle | None = None

    def add(self, peer: str | None, facts: Mapping[str, object]) -> None:
        if not self.times:
            self.peer, self.facts = peer, dict(facts)
        if peer is not None and peer != self.peer:
            self.peer = network_of(peer)
        if self.facts and self.facts != facts:
            self.facts = {k: v for k, v in self.facts.items() if facts.get(k) == v}
        self.times += 1


class RefusalAggregator:
    """Folds refusals by reason, status and peer. Every one is on record, alone or in ``times``.

    ``has_room`` tells whether a line may be written now; until then refusals are only counted.
    """

    def __init__(
        self,
        write: Write,
        has_room: Callable[[], bool] = lambda: True,
        budget: Budget | None = None,
    ) -> None:
        self._write = write
        self._has_room = has_room
        self._budget = budget or Budget()
        self._bursts: dict[Key, _Burst] = {}

    def note(self, reason: str, status: int, peer: str | None, facts: Mapping[str, object]) -> None:
        """Write a line about a refusal, now or together with others."""
        key: Key = (reason, status, None if peer is None else origin(peer))
        burst = self._bursts.get(key)
        if burst is None and key[2] is not None and not self._has_place(facts):
            key, peer, facts = (reason, status, None), None, {}
            burst = self._bursts.get(key)
        if burst is None:
            burst = self._bursts[key] = _Burst()
            self._continue(key, burst)
        if burst.times or not self._may_be_single(key, burst, facts):
            burst.add(peer, facts)
            return
        burst.singles += 1
        self._tell(key, peer, 1, facts)

    def _has_place(self, facts: Mapping[str, object]) -> bool:
        """Whether a further peer can be counted apart."""
        return len(self._bursts) < MAX_PEERS and self._budget.take(_size(facts))

    def _may_be_single(self, key: Key, burst: _Burst, facts: Mapping[str, object]) -> bool:
        if not self._has_room():
            return False
        if not burst.singles:
            return True  # its bytes were taken when it began; without a peer there are few of them
        return key[2] is not None and burst.singles < SINGLE and self._budget.take(_size(facts))

    def _continue(self, key: Key, burst: _Burst) -> None:
        # In a context of its own: a timer would keep that of the refused request alive.
        burst.timer = asyncio.get_running_loop().call_later(
            burst.pause, self._is_due, key, burst, context=Context()
        )

    def _is_due(self, key: Key, burst: _Burst) -> None:
        if burst.times:
            may_be_written = key[2] is None or self._budget.take(_size(burst.facts))
            if self._has_room() and may_be_written:
                self._fold(key, burst)
            burst.pause = min(burst.pause * 2, LONGEST_PAUSE)
        elif burst.pause < LONGEST_PAUSE:
            burst.pause = LONGEST_PAUSE
        else:
            del self._bursts[key]
            return
        self._continue(key, burst)

    def _fold(self, key: Key, burst: _Burst) -> None:
        times, burst.times = burst.times, 0
        self._tell(key, burst.peer, times, burst.facts)

    def _tell(self, key: Key, peer: str | None, times: int, facts: Mapping[str, object]) -> None:
        several = {"times": times} if times > 1 else {}
        self._write(key[0], key[1], peer, **facts, **several)

    def end(self) -> None:
        """Write what is left, room or not: one line for each peer as far as the budget goes, and
        one for each reason.
        """
        without_peer: dict[tuple[str, int], int] = {}
        for key, burst in self._bursts.items():
            if burst.timer is not None:
                burst.timer.cancel()
            if burst.times and key[2] is not None and self._budget.take(_size(burst.facts)):
                self._fold(key, burst)
            elif burst.times:
                without_peer[key[:2]] = without_peer.get(key[:2], 0) + burst.times
        self._bursts.clear()
        for (reason, status), times in without_peer.items():
            self._tell((reason, status, None), None, times, {})


def _size(facts: Mapping[str, object]) -> int:
    """Bytes of a line, roughly."""
    return LINE + sum(min(len(value), LINE) for value in facts.values() if isinstance(value, str))
