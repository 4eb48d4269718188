"""Reloads of all workers together."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from pexpolicy.config.file_tracking import read_file
from pexpolicy.server.reload.result import ReloadResult
from pexpolicy.server.workers.reload_transaction import Participant, ReloadTransaction


class ServingWorker(Participant, Protocol):
    """A worker that answers calls by the configuration with this hash."""

    config_hash: str


class ReloadCoordinator:
    """Reloads all workers; ``workers`` gives those that serve.

    ``content`` is what the configuration file held when the active configuration was made of it: a
    worker that takes the place of another begins with that. Set ``active_hash`` and ``files`` once
    the first one serves it.
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
        """Reload all workers to what the file holds now.

        Reloads again for a worker that began to serve meanwhile what was active before.
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
        transaction = ReloadTransaction(self._workers(), content, self.active_hash)
        result = await transaction.run()
        if result.done:
            self.content, self.active_hash = content, result.config_hash
            self.files = result.files
        else:
            self.files = tuple(dict.fromkeys((*self.files, *result.files)))
        return replace(result, files=self.files)
