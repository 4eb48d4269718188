"""The reload coordinator: reloads all workers together."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from pexpolicy.server.reload.result import ReloadResult
from pexpolicy.server.workers.reload_transaction import Participant, ReloadTransaction


class ServingWorker(Participant, Protocol):
    """A worker that answers calls from the configuration with this hash."""

    config_hash: str


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
            content = self._config.read_bytes()
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
