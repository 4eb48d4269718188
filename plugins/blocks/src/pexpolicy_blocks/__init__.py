"""Plugin ``blocks``: callers and aliases that an administrator has blocked for an hour."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import msgspec
from typing_extensions import override

from pexpolicy import (
    Alias,
    Decision,
    ParticipantPropertiesRequest,
    Plugin,
    PluginSettings,
    Reject,
    ServiceConfigurationRequest,
    SharedUnavailableError,
    Store,
    schedule,
    wall_clock,
)

HOUR_S = 3600.0
READ_S = 0.5
"""Seconds between two looks at what is blocked."""
MAX_BLOCKS = 500


class Block(msgspec.Struct, frozen=True):
    """One entry of the store; its key is ``caller/ALIAS`` or ``called/ALIAS``.

    The console writes it. Times are seconds since 1970.
    """

    since: float
    until: float
    by: str = ""
    why: str = ""


class BlocksSettings(PluginSettings):
    """There are none: what is blocked is shared state, and no part of the policy."""


class Blocks(Plugin[BlocksSettings]):
    """Rejects the calls of blocked callers, and those to blocked aliases."""

    can_reject = True

    def __init__(self, settings: BlocksSettings) -> None:
        super().__init__(settings)
        self._store = Store("blocks", Block, ttl=HOUR_S)
        self._known: Mapping[str, Block] = {}
        self._clock = wall_clock()
        schedule(self._read, every=READ_S, once_per="worker", name="read")

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Read what is blocked."""
        with suppress(SharedUnavailableError):
            await self._read()
        yield

    async def _read(self) -> None:
        """Read what is blocked; while that fails, what is known holds until it expires."""
        self._known = dict(await self._store.items(limit=MAX_BLOCKS))

    @override
    async def restrict_service_configuration(
        self, request: ServiceConfigurationRequest, decision: Decision
    ) -> Reject | None:
        """Reject a call of a blocked caller, or to a blocked alias."""
        return self._refusal(decision, request.local_alias, request.remote_alias)

    @override
    async def restrict_participant_properties(
        self, request: ParticipantPropertiesRequest, decision: Decision
    ) -> Reject | None:
        """Reject a blocked participant who is about to join."""
        return self._refusal(decision, request.local_alias, request.remote_alias)

    def _refusal(
        self, decision: Decision, called: Alias | None, caller: Alias | None
    ) -> Reject | None:
        if not self._known or decision.action == "reject":
            return None
        now = self._clock()
        for kind, alias in (("called", called), ("caller", caller)):
            found = self._known.get(f"{kind}/{alias}")
            # A replay asks at the time of the call.
            if found is not None and found.since <= now < found.until:
                until = f"{datetime.fromtimestamp(found.until, UTC):%H:%M} UTC"
                return Reject(reason=f"the {kind} alias is blocked until {until}")
        return None

    @override
    async def status(self) -> Mapping[str, object]:
        """Return how many are blocked."""
        now = self._clock()
        return {"blocked": sum(now < one.until for one in self._known.values())}
