"""Rooms that the service desk closes and opens by HTTP, without a reload."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from aiohttp import web
from pydantic import BaseModel

from pexpolicy import Plugin, PluginSettings, Reject, ServiceConfigurationRequest, Store


class Closure(BaseModel):
    """One closed room."""

    since: datetime


class Closures(Plugin[PluginSettings]):
    """Rejects calls to closed rooms; ``PUT`` and ``DELETE`` change the list.

    All workers, and all servers that share a database, have one list. Each room has an entry of its
    own, so that changes at the same time are all kept.
    """

    def __init__(self, settings: PluginSettings) -> None:
        self._closed = Store("closed", Closure)

    def routes(self) -> Iterable[web.RouteDef]:
        """Serve the list below ``/plugins/acme_closures/rooms``."""
        return [
            web.get("/rooms", self.list),
            web.put("/rooms/{room}", self.close),
            web.delete("/rooms/{room}", self.open),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """Return the closed rooms, the first 500 of them."""
        return web.json_response([room for room, _ in await self._closed.items()])

    async def close(self, request: web.Request) -> web.Response:
        """Close a room."""
        await self._closed.put(request.match_info["room"].lower(), Closure(since=datetime.now(UTC)))
        return web.Response(status=204)

    async def open(self, request: web.Request) -> web.Response:
        """Open a room again."""
        await self._closed.delete(request.match_info["room"].lower())
        return web.Response(status=204)

    async def service_configuration(self, request: ServiceConfigurationRequest) -> Reject | None:
        """Reject a call to a closed room."""
        if (closure := await self._closed.get(request.local_alias.user)) is not None:
            return Reject(reason=f"closed by the service desk since {closure.since:%F %R}")
        return None
