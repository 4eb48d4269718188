"""Refused connections, written down together where they come in bursts.

Whoever is kept out at the door can try thousands of times a second, and must not fill the disk with
that: the first one leaves its line at once, those of the next second one line with their number.
"""

from __future__ import annotations

import asyncio

from pexpolicy.access.refusals import CLOSED, Refusals

PAUSE = 1.0
"""Seconds between two lines of the same reason and peer."""
MAX_PEERS = 1024
"""Pairs of reason and peer that are counted apart; what is beyond is written under no peer."""


class Bursts:
    """Counts refused connections by reason and peer. Every one is on record, in ``times``."""

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self._more: dict[tuple[str, str | None], int] = {}
        self._timers: dict[tuple[str, str | None], asyncio.TimerHandle] = {}

    def note(self, reason: str, peer: str) -> None:
        """Note a connection that is closed without a byte."""
        key: tuple[str, str | None] = (reason, peer)
        if key not in self._more and len(self._more) >= MAX_PEERS:
            key = (reason, None)
        if key in self._more:
            self._more[key] += 1
            return
        self._refusals.note(reason, CLOSED, key[1])
        self._begin(key)

    def _begin(self, key: tuple[str, str | None]) -> None:
        self._more[key] = 0
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(PAUSE, self._go_on, key)

    def _go_on(self, key: tuple[str, str | None]) -> None:
        if self._write(key):
            self._begin(key)

    def _write(self, key: tuple[str, str | None]) -> bool:
        del self._timers[key]
        if not (times := self._more.pop(key)):
            return False
        reason, peer = key
        self._refusals.note(reason, CLOSED, peer, times=times)
        return True

    def end(self) -> None:
        """Write down what is left."""
        for key, timer in list(self._timers.items()):
            timer.cancel()
            self._write(key)
