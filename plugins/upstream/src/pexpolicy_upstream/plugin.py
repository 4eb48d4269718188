"""Plugin class of ``upstream``: six hooks that ask the targets of the matching routes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
from typing_extensions import override

from pexpolicy import (
    ConfigWarning,
    Decision,
    Key,
    Plugin,
    Problem,
    Request,
    SettingsError,
    hookimpl,
)
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.matching import compile_when
from pexpolicy.models.contract import Extras, contract_of
from pexpolicy.text import did_you_mean, suggest
from pexpolicy_upstream.route import WITHOUT_RESULT, Comparison, Route, Target
from pexpolicy_upstream.settings import (
    RouteSettings,
    UpstreamSettings,
    config_warnings,
)

OVERRIDABLE = (
    "service_configuration",
    "participant_properties",
    "media_location",
    "registration_alias",
)
"""Endpoints whose result is an object with fields."""

Routes = Mapping[str, tuple[Route, ...]]


def built(settings: UpstreamSettings) -> tuple[Mapping[str, Target], Routes]:
    """Return the targets by name and the routes of each endpoint; raises ``SettingsError``.

    Reads the certificates.
    """
    problems: list[Problem] = []
    targets: dict[str, Target] = {}
    for name, written in settings.targets.items():
        try:
            targets[name] = Target(name, written, extras=settings.extras)
        except SettingsError as error:
            problems += error.under(("targets", name))
    routes = settings.routes or [RouteSettings(targets=list(settings.targets))]
    for number, route in enumerate(routes):
        problems += _problems(("routes", number), route, settings)
    if problems:
        raise SettingsError(problems=problems)
    made = [
        (route, _route(f"route {number}", route, targets))
        for number, route in enumerate(routes, start=1)
    ]
    return targets, {
        endpoint: tuple(
            found for route, found in made if not route.endpoints or endpoint in route.endpoints
        )
        for endpoint in ENDPOINTS
    }


def _route(name: str, written: RouteSettings, targets: Mapping[str, Target]) -> Route:
    compared = written.compare_with
    return Route(
        f"{name} ({', '.join(written.targets)})",
        compile_when(written.when),
        [targets[name] for name in written.targets],
        written.override,
        None if compared is None else Comparison(targets[compared]),
        passes_continue=written.on_continue == "decide",
    )


def _problems(key: Key, route: RouteSettings, settings: UpstreamSettings) -> Iterator[Problem]:
    targets = settings.targets
    named: list[tuple[Key, str]] = [
        (("targets", number), name) for number, name in enumerate(route.targets)
    ]
    if route.compare_with is not None:
        named.append((("compare_with",), route.compare_with))
        if route.compare_with in route.targets:
            yield Problem((*key, "compare_with"), "is asked already: it is one of the targets")
    for where, name in named:
        if name not in targets:
            text = f"there is no target {name!r}{suggest(name, targets)}"
            yield Problem((*key, *where), text)
    if route.override:
        yield from _override_problems((*key, "override"), route, settings.extras)


def _override_problems(key: Key, route: RouteSettings, extras: Extras) -> Iterator[Problem]:
    """Fields that no decision of the endpoint has, or not with such a value.

    How they fit the rest is seen when they are merged.
    """
    if len(route.endpoints) != 1 or route.endpoints[0] not in OVERRIDABLE:
        known = ", ".join(OVERRIDABLE)
        yield Problem(key, f"needs a route with exactly one of the endpoints {known}")
        return
    decisions = ENDPOINTS[route.endpoints[0]].decisions
    results = [d for d in decisions if d not in WITHOUT_RESULT]
    kinds = [field for d in results for field in msgspec.structs.fields(contract_of(d).wire)]
    for name, value in route.override.items():
        if name in extras.fields or extras.has(name, value):
            continue
        complaints = [_complaint(value, field.type) for field in kinds if field.name == name]
        if not complaints:
            guess = did_you_mean(name, {field.name for field in kinds})
            yield Problem((*key, name), f"there is no such field{guess}")
        elif all(complaints):
            yield Problem((*key, name), complaints[0])


def _complaint(value: object, kind: Any) -> str:
    """Return what is wrong with a value of a field, or an empty text."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


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
