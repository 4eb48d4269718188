"""HTTP routes of plugins, served on the admin listener.

Imported only when a plugin has routes.
"""

from __future__ import annotations

import inspect
from urllib.parse import quote

from aiohttp import web
from aiohttp.abc import AbstractView

from pexpolicy.text import brief

PREFIX = "/plugins/"
"""The path below which each plugin has a folder of its own."""


class PluginRoutes:
    """The routes of one plugin, below ``/plugins/NAME``; ``in_flight`` counts its requests."""

    def __init__(self, plugin: str) -> None:
        self.plugin = plugin
        self.app = web.Application()
        self.in_flight = 0
        self._root = f"{PREFIX}{quote(plugin, safe='')}"

    def add(self, route: web.RouteDef) -> None:
        """Add a route; raise ``ValueError`` if it cannot be served."""
        if not route.path.startswith("/"):
            raise ValueError(f"its path must begin with a slash and continue {self._root}")
        if route.path.startswith(PREFIX):
            raise ValueError(f"its path continues {self._root}: leave that out")
        if not _is_asynchronous(route.handler):
            raise ValueError(f"its handler is {brief(route.handler)}: write an async def")
        try:
            inspect.signature(route.handler).bind(None)
        except TypeError as error:
            raise ValueError(f"its handler is called with the request: {error}") from None
        path = self._root + route.path
        try:
            web.RouteDef(route.method, path, route.handler, route.kwargs).register(self.app.router)
        except (ValueError, RuntimeError, TypeError, AttributeError, AssertionError) as error:
            text = str(error) or type(error).__name__
            raise ValueError("it is there twice" if "never be executed" in text else text) from None


def _is_asynchronous(handler: object) -> bool:
    if isinstance(handler, type):
        return issubclass(handler, AbstractView)
    return inspect.iscoroutinefunction(handler)


def is_route(item: object) -> bool:
    """Return whether an item is a route, as ``aiohttp.web.get(...)`` returns."""
    return isinstance(item, web.RouteDef)
