"""All that one configuration amounts to while it serves, in one object that is swapped whole."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from pexpolicy.access.access_control import Gate
from pexpolicy.audit.audit_log import Audit
from pexpolicy.audit.redaction import redaction_of
from pexpolicy.policy import Policy


class Calls:
    """Counts the calls that a regime has under way."""

    __slots__ = ("_none_left", "under_way")

    def __init__(self) -> None:
        self.under_way = 0
        self._none_left: asyncio.Event | None = None

    def end(self) -> None:
        """One call is answered."""
        self.under_way -= 1
        if self._none_left is not None and not self.under_way:
            self._none_left.set()

    async def finished(self) -> None:
        """Wait for the last one. No further call may begin: the regime is no longer in force."""
        if self.under_way:
            self._none_left = asyncio.Event()
            await self._none_left.wait()


@dataclass(frozen=True, slots=True)
class Regime:
    """The rules in force: who may ask, how it is decided, and what is written down of it.

    A call takes the regime once, when it begins, and keeps to it until it is answered. So no reply
    is made of two configurations, and its audit line names the one that it was made of.
    """

    policy: Policy
    gate: Gate
    audit: Audit
    calls: Calls = field(default_factory=Calls)


def regime_of(policy: Policy, audit: Audit, before: Gate | None = None) -> Regime:
    """What the configuration of a policy amounts to; its lines go where those of ``audit`` go.

    ``before`` is the gate of the regime that it follows, which hands on what it has learned.
    """
    settings = policy.settings
    gate = before.renewed(settings) if before is not None else Gate.of(settings)
    return Regime(policy, gate, audit.under(redaction_of(settings)))
