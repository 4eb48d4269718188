"""Plugin class of ``upstream``: six hooks that ask the targets of the matching routes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from typing_extensions import override

from pexpolicy import (
    ConfigWarning,
    Decision,
    DirectoryInformationRequest,
    MediaLocationRequest,
    ParticipantAvatarRequest,
    ParticipantPropertiesRequest,
    Plugin,
    RegistrationAliasRequest,
    Request,
    ServiceConfigurationRequest,
)
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

    @override
    async def service_configuration(self, request: ServiceConfigurationRequest) -> Any:
        """Ask the targets."""
        return await self._ask("service_configuration", request)

    @override
    async def participant_properties(self, request: ParticipantPropertiesRequest) -> Any:
        """Ask the targets."""
        return await self._ask("participant_properties", request)

    @override
    async def media_location(self, request: MediaLocationRequest) -> Any:
        """Ask the targets."""
        return await self._ask("media_location", request)

    @override
    async def participant_avatar(self, request: ParticipantAvatarRequest) -> Any:
        """Ask the targets."""
        return await self._ask("participant_avatar", request)

    @override
    async def directory_information(self, request: DirectoryInformationRequest) -> Any:
        """Ask the targets."""
        return await self._ask("directory_information", request)

    @override
    async def registration_alias(self, request: RegistrationAliasRequest) -> Any:
        """Ask the targets."""
        return await self._ask("registration_alias", request)

    async def _ask(self, endpoint: str, request: Request) -> Decision | None:
        """Return the decision of the first route that has one."""
        deadline = time.monotonic() + self._time
        notes = request.notes
        for route in self._routes[endpoint]:
            if not route.condition.matches(request):
                if notes is not None:
                    notes.append(f"{route.name}: {route.condition.why(request)}")
                continue
            if notes is not None:
                notes.append(f"{route.name} is asked")
            decision = await route.ask(endpoint, request, deadline)
            if decision is not None:
                return decision
        return None

    @override
    def status(self) -> Mapping[str, object]:
        """Return the counters of each target, and the differences of compared ones."""
        compared = [r.comparison.status() for r in self._each_route if r.comparison is not None]
        targets = {name: target.status() for name, target in self._targets.items()}
        return {"targets": targets, "compared": compared}
