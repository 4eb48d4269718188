"""Builder of targets and routes from settings that collects all problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from pexpolicy import Key, Problem, SettingsError
from pexpolicy.config.outgoing import secret, tls_context
from pexpolicy.conformance.replies import basic
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.matching import compile_when
from pexpolicy.models.contract import Extras, contract_of
from pexpolicy.text import did_you_mean
from pexpolicy_upstream.route import WITHOUT_RESULT, Comparison, Route
from pexpolicy_upstream.settings import RouteSettings, TargetSettings, UpstreamSettings
from pexpolicy_upstream.target import Target

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

    Reads the passwords and the certificates.
    """
    problems: list[Problem] = []
    targets: dict[str, Target] = {}
    for name, written in settings.targets.items():
        try:
            targets[name] = _target(name, written, settings.extras)
        except SettingsError as error:
            key = ("targets", name)
            problems += [Problem((*key, *problem.key), problem.text) for problem in error.problems]
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


def _target(name: str, written: TargetSettings, extras: Extras) -> Target:
    password = secret("password", written.password_env, written.password_file)
    authorization = None if written.user is None else basic(written.user, password or "")
    tls = None
    if written.url.startswith("https://"):
        files = (written.ca_file, written.client_cert, written.client_key)
        tls = tls_context(*files, verify=written.verify)
    return Target(name, written, authorization, tls, extras=extras)


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
            guess = did_you_mean(name, targets) or f"; there are {', '.join(targets)}"
            yield Problem((*key, *where), f"there is no target {name!r}{guess}")
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
