"""Plugin class of ``upstream``: six hooks that ask the targets of the matching routes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from typing_extensions import override

from pexpolicy import ConfigWarning, Decision, Plugin, Request, hookimpl
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy_upstream.builder import built
from pexpolicy_upstream.settings import UpstreamSettings, config_warnings

MARGIN = 0.02
"""Seconds kept of the plugin's timeout to report which target was late."""


class Upstream(Plugin[UpstreamSettings]):
    """Forwards calls to other policy servers and answers with their decisions."""

    can_reject = True

    def __init__(self, settings: UpstreamSettings) -> None:
        self._targets, self._routes = built(settings)
        self._each_route = tuple(dict.fromkeys(r for found in self._routes.values() for r in found))
        self._time = max(settings.plugin_timeout - MARGIN, settings.plugin_timeout / 2)
        self._warnings = tuple(config_warnings(settings))
        for endpoint in ENDPOINTS:
            setattr(self, endpoint, self._hook(endpoint))

    @override
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open the connections to the targets."""
        async with AsyncExitStack() as stack:
            for target in self._targets.values():
                await stack.enter_async_context(target.connected())
            for route in self._each_route:
                if route.comparison is not None:
                    stack.push_async_callback(route.comparison.finish)
            yield

    @override
    def config_warnings(self) -> Iterable[ConfigWarning]:
        """Warn of unverified targets, timeouts that do not fit, and unused targets."""
        return self._warnings

    def _hook(self, endpoint: str) -> Callable[[Request], Awaitable[Decision | None]]:
        async def ask(request: Request) -> Decision | None:
            deadline = time.monotonic() + self._time
            for route in self._routes[endpoint]:
                matches = route.condition.matches(request)
                if request.notes is not None:
                    why = "" if matches else route.condition.why(request)
                    request.notes.append(
                        f"{route.name}: {why}" if why else f"{route.name} is asked"
                    )
                if (
                    matches
                    and (decision := await route.ask(endpoint, request, deadline)) is not None
                ):
                    return decision
            return None

        return hookimpl(specname=endpoint)(ask)

    @override
    def status(self) -> Mapping[str, object]:
        """Return the counters of each target, and the differences of compared ones."""
        compared = [r.comparison.status() for r in self._each_route if r.comparison is not None]
        targets = {name: target.status() for name, target in self._targets.items()}
        return {"targets": targets, "compared": compared}
