"""The reload coordinator: reloads all workers by a two-phase commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol, TypeVar

from msgspec.structs import replace

from pexpolicy.config.file_tracking import read_file
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
    """A worker that can prepare, commit and abandon a configuration."""

    async def ask(self, order: Order) -> Report | None:
        """Send an order and return its report; ``None`` if the worker has ended."""

    def send(self, order: Order) -> None:
        """Send an order that has no report."""


class ServingWorker(Participant, Protocol):
    """A worker that answers calls from the configuration with this hash."""

    config_hash: str


P = TypeVar("P", bound=Participant)


class ReloadCoordinator:
    """Reloads all workers; ``workers`` returns those that answer calls.

    ``content`` is that of the configuration file when the active configuration was read: a worker
    that replaces another one starts with it. Set ``active_hash`` and ``files`` when the first
    worker answers calls.
    """

    def __init__(
        self, config: Path, content: bytes, workers: Callable[[], Collection[ServingWorker]]
    ) -> None:
        self._config = config
        self._workers = workers
        self.content = content
        self.active_hash = ""
        self.files: tuple[str, ...] = ()

    async def reload(self) -> ReloadResult:
        """Reload all workers from the present file.

        Reload again for a worker that has started meanwhile with the previous configuration.
        """
        result = await self._reload()
        while result.done and any(w.config_hash != self.active_hash for w in self._workers()):
            result = await self._reload()
        return result

    async def _reload(self) -> ReloadResult:
        try:
            content = read_file(self._config)
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
            return ReloadResult(self.active_hash, problems=(problem,), files=self.files)
        result = await reload_all(self._workers(), content, self.active_hash)
        if result.done:
            self.content, self.active_hash = content, result.config_hash
            self.files = result.files
        else:
            self.files = tuple(dict.fromkeys((*self.files, *result.files)))
        return replace(result, files=self.files)


async def reload_all(
    workers: Collection[Participant], content: bytes, active_hash: str
) -> ReloadResult:
    """Reload all workers to the content of the configuration file, or none.

    A worker that ends meanwhile is ignored. ``active_hash`` is that of the configuration that stays
    active if a worker refuses the new one.
    """
    reports = await _ask_all(workers, Prepare(content))
    prepared = [worker for worker, report in reports if isinstance(report, Prepared)]
    refusals = [report for _, report in reports if isinstance(report, Refused)]
    hashes = {report.config_hash for _, report in reports if isinstance(report, Prepared)}
    problems: list[str] = []
    if refusals:
        problems = [problem for refusal in refusals for problem in refusal.problems]
    elif not prepared:
        problems = ["no worker is running"]
    elif len(hashes) > 1:
        problems = ["a file changed while the workers read it"]
    if not problems:
        for _, report in await _ask_all(prepared, Commit()):
            if isinstance(report, Committed):
                return report.result
        problems = ["all workers ended during the reload"]
    else:
        for worker in prepared:
            worker.send(Abandon())
    files = (file for refusal in refusals for file in refusal.files)
    return ReloadResult(
        active_hash,
        problems=tuple(dict.fromkeys(problems)),
        files=tuple(dict.fromkeys(files)),
    )


async def _ask_all(workers: Collection[P], order: Order) -> list[tuple[P, Report | None]]:
    """Send an order to all workers and return their reports."""
    reports = await asyncio.gather(*(worker.ask(order) for worker in workers))
    return list(zip(workers, reports, strict=True))
