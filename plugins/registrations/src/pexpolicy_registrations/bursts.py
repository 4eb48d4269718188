"""Bursts of unknown aliases, counted by the address that they come from."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

WINDOW_S = 60.0
MAX_ADDRESSES = 10_000
"""Number of addresses that are remembered, the most recent ones."""


class Bursts:
    """Counts the unknown aliases of each address within a minute."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def exceeds(self, address: str) -> bool:
        """Count an unknown alias of an address; return whether it has had too many."""
        if not self._limit:
            return False
        now = self._clock()
        began, count = self._windows.pop(address, (now, 0))
        if now - began >= WINDOW_S:
            began, count = now, 0
        self._windows[address] = (began, count + 1)
        if len(self._windows) > MAX_ADDRESSES:
            self._windows.popitem(last=False)
        return count >= self._limit
