"""A worker's side of a reload: prepare, then commit or abandon, as the arbiter says."""

from __future__ import annotations

import asyncio

from pexpolicy.config import ConfigError
from pexpolicy.lifetime import Lifetime
from pexpolicy.reload.reloading import Reloads
from pexpolicy.stopping import Stop
from pexpolicy.workers.messages import (
    Abandon,
    Commit,
    Committed,
    Prepare,
    Prepared,
    Refused,
    Report,
    framed,
    next_order,
)


class Obeying:
    """Carries out orders until the arbiter is gone; a worker without one stops."""

    def __init__(
        self,
        reloads: Reloads,
        stop: Stop,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._reloads = reloads
        self._stop = stop
        self._reader = reader
        self._writer = writer
        self._prepared: Lifetime | None = None

    async def obey(self) -> None:
        """Carry out one order after the other."""
        while (order := await next_order(self._reader)) is not None:
            match order:
                case Prepare():
                    self._report(await self._prepare(order.content))
                case Commit():
                    self._report(self._commit())
                case Abandon():
                    await self._abandon()
        self._stop.ask()

    async def _prepare(self, content: bytes) -> Report:
        await self._abandon()
        try:
            self._prepared = await self._reloads.prepare(content)
        except ConfigError as error:
            problems = self._reloads.refuse(error).problems
            return Refused(problems, files=tuple(map(str, self._reloads.suspects)))
        return Prepared(self._prepared.regime.policy.config_hash)

    def _commit(self) -> Report:
        if self._prepared is None:
            return Refused(("nothing was prepared",))
        verdict = self._reloads.commit(self._prepared)
        self._prepared = None
        return Committed(verdict, tuple(map(str, self._reloads.policy.files)))

    async def _abandon(self) -> None:
        if self._prepared is not None:
            prepared, self._prepared = self._prepared, None
            await self._reloads.abandon(prepared)

    def _report(self, report: Report) -> None:
        self._writer.write(framed(report))
