"""One reload of all workers, in two phases: each prepares it, then all commit it, or none."""

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
    """A worker, as a transaction sees it."""

    async def ask(self, order: Order) -> Report | None:
        """Give an order and wait for its report; gives ``None`` for a worker that is gone."""

    def send(self, order: Order) -> None:
        """Give an order that has no report."""


class ReloadTransaction:
    """A reload of ``workers`` to the ``content`` of the configuration file.

    A worker that dies meanwhile is not waited for. ``active_hash`` is that of the configuration
    that stays active if one of them refuses.
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
        return self._refused("every worker died of it")

    def _refusal(self, reports: list[Report | None]) -> ReloadResult | None:
        """Say why there is nothing to commit, if so."""
        hashes = {report.config_hash for report in reports if isinstance(report, Prepared)}
        refusals = [report for report in reports if isinstance(report, Refused)]
        if refusals:
            return self._refused(
                *dict.fromkeys(problem for report in refusals for problem in report.problems),
                files=tuple(dict.fromkeys(file for report in refusals for file in report.files)),
            )
        if not hashes:
            return self._refused("no worker is there to serve it")
        if len(hashes) > 1:
            return self._refused("a file changed while the workers read it")
        return None

    def _refused(self, *problems: str, files: tuple[str, ...] = ()) -> ReloadResult:
        return ReloadResult(self._active_hash, problems=problems, files=files)


async def _all(
    workers: Collection[Participant], order: Order
) -> list[tuple[Participant, Report | None]]:
    """Give an order to all workers at the same time, and wait for all reports."""
    reports = await asyncio.gather(*(worker.ask(order) for worker in workers))
    return list(zip(workers, reports, strict=True))
