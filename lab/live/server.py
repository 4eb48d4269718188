"""A policy server that counts events and limits a tenant, to be killed."""

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support import postgresql, site, wire
from tests.support.processes import children
from tests.support.server_process import ServerProcess

HARD = 4
"""Places of the tenant ``acme``."""
BOARD = "board@acme.example.com"
PLUGINS = f"""
[plugins.live]
[plugins.limits]
on_error = "reject"
timeout = {{timeout}}
[plugins.limits.settings.tenants.acme]
participants = {{{{ hard = {HARD} }}}}
on_hard = "reject"
"""


class PolicyServer(ServerProcess):
    """A policy server with several workers."""

    def __init__(
        self,
        folder: Path,
        plugins: str,
        database: postgresql.Server | None = None,
        workers: int = 2,
        timeout: float = 4.0,
    ) -> None:
        super().__init__(folder)
        self._user = self._group = None  # the account of databases may not read our environment
        os.chown(folder, os.getuid(), os.getgid())
        ports = site.configure(folder, plugins, database, workers=workers, timeout=timeout)
        self.port, self.admin = ports["port"], ports["admin"]

    def command(self) -> list[str]:
        return [str(Path(sys.executable).parent / "pexpolicy"), "serve"]

    def is_ready(self) -> bool:
        with suppress(OSError, IndexError):
            return wire.ask_blocking(self.port, "/readyz").status == 200
        return False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def workers(self) -> list[int]:
        return [] if self._process is None else [*children(self._process.pid)]

    def told(self, path: str) -> Any:
        """Return a document of the admin listener; an empty one while the server is away."""
        with suppress(OSError, IndexError, ValueError):
            return wire.ask_blocking(self.admin, path, headers={"Host": "127.0.0.1"}).json
        return {}

    def places(self) -> int:
        """Return how many places of the tenant are taken; -1 while nothing tells it."""
        for plugin in self.told("/status").get("plugins", ()):
            if plugin["name"] == "limits" and "status" in plugin:
                return int(plugin["status"]["tenants"].get("acme", 0))
        return -1

    async def post(self, body: object) -> bool:
        """Send what a node sends; return whether it was accepted."""
        with suppress(OSError, IndexError, TimeoutError):
            async with asyncio.timeout(7.0):
                return (await wire.send(self.port, site.message(body))).status == 200
        return False
