"""The worker's side of a reload: prepare, then commit or abandon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pexpolicy.config.settings import ConfigError
from pexpolicy.server.generations import GenerationRunner
from pexpolicy.server.reload.reloader import Reloader
from pexpolicy.server.workers.messages import (
    Abandon,
    Commit,
    Committed,
    Prepare,
    Prepared,
    Refused,
    ReloadOrder,
    Report,
)


class ReloadParticipant:
    """Executes the orders of the supervisor."""

    def __init__(
        self,
        reloader: Reloader,
        orders: asyncio.Queue[ReloadOrder],
        report: Callable[[Report], None],
    ) -> None:
        self._reloader = reloader
        self._orders = orders
        self._report = report
        self._prepared: GenerationRunner | None = None

    async def run(self) -> None:
        """Execute the orders one by one."""
        while True:
            match await self._orders.get():
                case Prepare(content):
                    self._report(await self._prepare(content))
                case Commit():
                    self._report(self._commit())
                case Abandon():
                    await self._abandon()

    async def _prepare(self, content: bytes) -> Report:
        await self._abandon()
        try:
            self._prepared = await self._reloader.prepare(content)
        except ConfigError as error:
            result = self._reloader.refuse(error)
            return Refused(result.problems, files=result.files)
        return Prepared(self._prepared.generation.policy.config_hash)

    def _commit(self) -> Report:
        if self._prepared is None:
            return Refused(("nothing is prepared",))
        prepared, self._prepared = self._prepared, None
        return Committed(self._reloader.commit(prepared))

    async def _abandon(self) -> None:
        if self._prepared is not None:
            prepared, self._prepared = self._prepared, None
            await self._reloader.abandon(prepared)
