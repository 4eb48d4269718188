"""The reload transaction: a two-phase commit of a configuration on all workers."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Protocol

from pexpolicy.server.reload.result import ReloadResult
from pexpolicy.server.workers.messages import (
    Abandon,
    Commit,
    Committed,
    Order,
    Prepare,
    Prepared,
    Refused,
    Report,
)


class Participant(Protocol):
    """A worker that takes part in a transaction."""

    async def ask(self, order: Order) -> Report | None:
        """Send an order and return its report; ``None`` if the worker has ended."""

    def send(self, order: Order) -> None:
        """Send an order that has no report."""


class ReloadTransaction:
    """A reload of ``workers`` to the ``content`` of the configuration file.

    A worker that ends meanwhile is ignored. ``active_hash`` is that of the configuration that stays
    active if a worker refuses the new one.
    """

    def __init__(self, workers: Collection[Participant], content: bytes, active_hash: str) -> None:
        self._workers = workers
        self._content = content
        self._active_hash = active_hash

    async def run(self) -> ReloadResult:
        """Reload all workers, or none."""
        reports = await _all(self._workers, Prepare(self._content))
        prepared = [worker for worker, report in reports if isinstance(report, Prepared)]
        if (refused := self._refusal([report for _, report in reports])) is not None:
            for worker in prepared:
                worker.send(Abandon())
            return refused
        for _, report in await _all(prepared, Commit()):
            if isinstance(report, Committed):
                return report.result
        return self._refused("all workers ended during the reload")

    def _refusal(self, reports: list[Report | None]) -> ReloadResult | None:
        """Return the result of a reload that cannot be committed, or ``None``."""
        hashes = {report.config_hash for report in reports if isinstance(report, Prepared)}
        refusals = [report for report in reports if isinstance(report, Refused)]
        if refusals:
            return self._refused(
                *dict.fromkeys(problem for report in refusals for problem in report.problems),
                files=tuple(dict.fromkeys(file for report in refusals for file in report.files)),
            )
        if not hashes:
            return self._refused("no worker is running")
        if len(hashes) > 1:
            return self._refused("a file changed while the workers read it")
        return None

    def _refused(self, *problems: str, files: tuple[str, ...] = ()) -> ReloadResult:
        return ReloadResult(self._active_hash, problems=problems, files=files)


async def _all(
    workers: Collection[Participant], order: Order
) -> list[tuple[Participant, Report | None]]:
    """Send an order to all workers and return their reports."""
    reports = await asyncio.gather(*(worker.ask(order) for worker in workers))
    return list(zip(workers, reports, strict=True))
