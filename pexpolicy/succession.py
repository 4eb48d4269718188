"""One regime after the other: which is in force, and which are on their way out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pexpolicy import gc_tuning
from pexpolicy.access.access_control import Gate
from pexpolicy.hidden import hide
from pexpolicy.lifetime import Lifetime
from pexpolicy.policy import Policy
from pexpolicy.regime import Regime


class Succession:
    """The regimes of one server, the first of which is open already.

    ``activate`` is called with each that follows, ``cleared`` after the end of each.
    """

    def __init__(
        self,
        first: Lifetime,
        activate: Callable[[Regime], None],
        cleared: Callable[[], None] = gc_tuning.collect_frozen,
    ) -> None:
        self._activate = activate
        self._cleared = cleared
        self._current = first
        self._leaving: dict[Lifetime, asyncio.Task[None]] = {}

    @property
    def policy(self) -> Policy:
        """The policy that is in force."""
        return self._current.regime.policy

    @property
    def gate(self) -> Gate:
        """The gate that is in force."""
        return self._current.regime.gate

    def follow(self, successor: Lifetime) -> None:
        """Activate a regime that is open; the one before it is closed after its last call."""
        before, self._current = self._current, successor
        gc_tuning.freeze()
        self._activate(successor.regime)
        task = asyncio.get_running_loop().create_task(self._close(before))
        hide(task)
        self._leaving[before] = task

    async def _close(self, lifetime: Lifetime) -> None:
        await lifetime.close()
        del self._leaving[lifetime]
        self._cleared()

    async def end(self) -> None:
        """Close every regime."""
        leaving = list(self._leaving.values())
        await self._current.close()
        if leaving:
            await asyncio.wait(leaving)

    @property
    def leftovers(self) -> list[str]:
        """Plugins and hooks that were given up, and have not come back."""
        lifetimes = (self._current, *self._leaving)
        return sorted({name for life in lifetimes for name in life.regime.policy.leftovers})
