"""Rooms that the service desk closes and opens by HTTP, without a reload."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from aiohttp import web

from pexpolicy import ConfigPath, Plugin, PluginSettings, Reject, ServiceConfigurationRequest


class Settings(PluginSettings):
    """``[plugins.acme_closures.settings]``."""

    file: ConfigPath
    """JSON list of the closed rooms, which all worker processes share."""


class Closures(Plugin[Settings]):
    """Rejects calls to closed rooms; ``PUT`` and ``DELETE`` change the list."""

    def routes(self) -> Iterable[web.RouteDef]:
        """Serve the list below ``/plugins/acme_closures/rooms``."""
        return [
            web.get("/rooms", self.list),
            web.put("/rooms/{room}", self.change),
            web.delete("/rooms/{room}", self.change),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """Return the closed rooms."""
        return web.json_response(sorted(read(self.settings.file)))

    async def change(self, request: web.Request) -> web.Response:
        """Close or open a room."""
        room, closed = request.match_info["room"].lower(), read(self.settings.file)
        closed = closed | {room} if request.method == "PUT" else closed - {room}
        write(self.settings.file, closed)
        return web.Response(status=204)

    def service_configuration(self, request: ServiceConfigurationRequest) -> Reject | None:
        """Reject a call to a closed room; a plain ``def``, as it reads a file."""
        if request.local_alias.user in read(self.settings.file):
            return Reject(reason="the service desk closed the room")
        return None


def read(file: Path) -> frozenset[str]:
    """Return the closed rooms; none if there is no file yet."""
    return frozenset(json.loads(file.read_text())) if file.exists() else frozenset()


def write(file: Path, rooms: frozenset[str]) -> None:
    """Replace the file in one step, so that no worker reads half of it."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps(sorted(rooms)))
    new.replace(file)
