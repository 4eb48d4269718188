"""The builder of a policy from settings, used by serve, check, explain and tests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

from pexpolicy import __version__
from pexpolicy.access.warnings import access_warnings, path_findings
from pexpolicy.background.sources import SourceLease, driver_of
from pexpolicy.chain.chain import ADJUST, BoundHook, Chain, hooks_of
from pexpolicy.config.files import FileUser, Tracked, reading, tracking
from pexpolicy.config.loader import load
from pexpolicy.config.problems import ConfigWarning, Problem
from pexpolicy.config.schema.plugins import EndpointTable, ObjectLists, PluginTable
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import Endpoint
from pexpolicy.endpoints.object_names import NameSource, ObjectNames
from pexpolicy.fleet.last_good import Fallback, changed_secrets, last_good, state_folder
from pexpolicy.fleet.policy_hash import inputs_of
from pexpolicy.models.context import LIVE, LiveValues, using_live_values, using_wall_clock
from pexpolicy.models.decision import Reject
from pexpolicy.models.errors import DecisionError
from pexpolicy.plugins.binding import (
    Descriptions,
    bind_hook,
    describe,
)
from pexpolicy.plugins.discovery import PluginSource, discover
from pexpolicy.plugins.plugin import BuiltPlugin, build, with_settings
from pexpolicy.policy import EVERY, BuildContext, Chains, Policy, release

Preflight = Callable[[Settings], Iterable[Problem]]
Names = Mapping[str | None, ObjectNames]
"""What checks the names of Infinity, by environment."""


def build_policy(
    settings: Settings,
    *,
    available: Mapping[str, PluginSource] | None = None,
    context: BuildContext | None = None,
    file_user: FileUser | None = None,
) -> Policy:
    """Build the policy of a configuration; raise ``ConfigError`` with every problem.

    ``available`` are the plugins to choose from, by default the installed ones and those of
    ``plugin_dirs``. Warnings judge files as those of ``file_user``, if it is given.
    """
    context = context or BuildContext()
    settings = context.applied_to(settings)
    found, problems = discover(settings.plugin_folders) if available is None else (available, [])
    root = settings.policy_folder
    is_complete = "sources" not in settings.wrong
    sources = SourceLease(
        context.shared, settings.sources, root, with_settings, is_complete=is_complete
    )
    received = tuple(settings.event_tables)
    live = LiveValues(settings.nodes.event_sources, received)
    clock, values = using_wall_clock(context.wall_clock), using_live_values(live)
    with tracking() as tracked, sources.resolving(), clock, values:
        names_of = _names(settings, sources, problems := [*problems])
        live.platforms = _platforms(settings, names_of, received or ("default",))
        plugins, unbuilt = build(settings.plugins, found, root, sources=sources, isolate=_isolate)
    told, failed = describe(plugins, root)
    problems += [*sources.problems, *unbuilt, *failed]
    problems += _undeclared(told, names_of, settings)
    if live.used and live.read is None and not unbuilt:
        text = f"is not active, and conditions on {', '.join(sorted(live.used))} need it"
        problems.append(Problem(("plugins", LIVE), text))
    if problems:
        release(plugins, sources)
        raise ConfigError(settings.path, problems)

    told.files += sources.files
    inputs = inputs_of(
        settings,
        Tracked(told.files, [*settings.secrets, *tracked.secrets], tracked.digests),
        [f"pexpolicy {__version__}", *(plugin.available.origin for plugin in plugins)],
    )
    tables = {plugin.name: plugin.table for plugin in plugins}
    settings = settings.model_copy(update={"sources": {}, "plugins": tables})
    present = settings.present.files if settings.present is not None else ()
    told.files[:0] = (settings.path, *present, *settings.secret_files)
    unused = [ConfigWarning(("sources", name), "no plugin uses it") for name in sources.unused]
    told.warnings = [*_short_pins(told, settings.infinity.min_pin_length), *told.warnings, *unused]

    def core_warnings() -> Iterator[Problem | ConfigWarning]:
        yield from config_warnings(settings, plugins)
        for one in chain.from_iterable(names.problems() for names in policy.all_names):
            yield from (ConfigWarning(place, one.text) for place in one.places)
        if file_user is not None:
            yield from path_findings(policy.paths, file_user)

    told.core_warnings = core_warnings
    chains = _chains(settings, context, names_of, plugins)
    policy = Policy(settings, tuple(plugins), sources, told, chains, context, inputs)
    policy.platforms = live.platforms
    policy.all_names = tuple(dict.fromkeys(names_of.values()))
    return policy


def _names(
    settings: Settings, sources: SourceLease, problems: list[Problem]
) -> dict[str | None, ObjectNames]:
    """Return what checks the names of Infinity in each environment, and in none, if it is known."""
    usual = settings.infinity
    tables: dict[str | None, ObjectLists] = {None: usual}
    tables |= {name: one.infinity for name, one in settings.environments.items()}
    found: dict[str | None, ObjectNames] = {}
    for environment, table in tables.items():
        key = ("infinity",) if environment is None else ("environments", environment, "infinity")
        name, source = table.source or usual.source, None
        try:
            source = None if name is None else driver_of(name, NameSource, sources)
        except ValueError as error:
            problems.append(Problem((*key, "source"), str(error)))
        names = {**usual.names, **table.names}
        if environment is not None and not table.model_fields_set and None in found:
            found[environment] = found[None]
        elif names or source:
            found[environment] = ObjectNames(names, source, key)
    return found


def _platforms(settings: Settings, names_of: Names, sources: Sequence[str]) -> Mapping[str, Any]:
    """Return the drivers of the Management API by the source of events, unless two have one."""
    named, tables = settings.nodes.event_sources, settings.environments.items()
    of: dict[str | None, str] = {n: named[n] for n, one in tables if one.infinity.source}
    usual = "default" if len(sources) > 1 else sources[0]
    # Another only source of events may be that of an environment.
    if usual == "default" or usual not in of.values():
        of[None] = usual
    found = defaultdict[str, set[Any]](set)
    for name, source in of.items():
        if name in names_of and hasattr(driver := names_of[name].source, "command"):
            found[source].add(driver)
    return {source: one.pop() for source, one in found.items() if len(one) == 1}


def _chains(
    settings: Settings, context: BuildContext, names_of: Names, plugins: list[BuiltPlugin]
) -> dict[str | None, Chains]:
    """Return the chains of the calls of each environment, and of those of none."""
    bound = {
        name: [(p.table, [bind_hook(p, hook) for hook in hooks_of(name)]) for p in plugins]
        for name in ENDPOINTS
    }

    def chain_of(endpoint: Endpoint[Any], environment: str | None) -> Chain:
        table = settings.endpoints.get(cast("Any", endpoint.name), EndpointTable())
        rejects = table.default == "reject"

        def made(
            budget: float,
            parts: Sequence[Sequence[BoundHook | None]],
            shadows: Sequence[Chain] = (),
        ) -> Chain:
            decide, adjust, restrict = (
                [link for one in parts if (link := one[kind])] for kind in range(3)
            )
            return Chain(
                endpoint,
                (*decide, *adjust, *restrict),
                Reject(reason="no plugin decided") if rejects else endpoint.default,
                budget,
                context.clock,
                context.log,
                names_of.get(environment),
                deciding=len(decide),
                restricting=len(decide) + len(adjust),
                merges=table.combine == "merge",
                shadows=shadows,
            )

        asked = [
            (table, parts)
            for table, parts in bound[endpoint.name]
            if environment == EVERY or table.is_asked_in(environment)
        ]
        shadows = [
            made(table.timeout, [[*[None] * kind, part, None, None]])
            for table, parts in asked
            for kind, part in enumerate(parts)
            if table.mode == "shadow" and part
        ]
        decides = [parts for table, parts in asked if table.mode == "decide"]
        return made(settings.server.budget, decides, shadows)

    others = (EVERY, *settings.environments) if settings.environments else ()
    return {
        environment: {one.request: chain_of(one, environment) for one in ENDPOINTS.values()}
        for environment in (None, *others)
    }


def policy_from(
    path: Path,
    more_problems: Preflight = lambda _: (),
    context: BuildContext | None = None,
    *,
    content: bytes | None = None,
) -> Policy:
    """Build the policy of a configuration file; raise ``ConfigError`` with every problem.

    ``more_problems`` finds further ones, such as a port that is in use. The usable part of a broken
    file is built as well, so that the problems of its plugins are reported too. ``content`` is the
    content of the file where the caller has read it already.
    """
    context = context or BuildContext()
    user = context.file_user
    problems: list[Problem] = []
    policy = None
    with tracking() as tracked:
        try:
            settings: Settings | None = load(path, content=content)
        except ConfigError as error:
            problems += error.problems
            settings, context = error.salvaged, BuildContext()
        if settings is not None:
            problems += more_problems(settings)
            try:
                judged = user or FileUser.present(path)
                policy = build_policy(settings, context=context, file_user=judged)
                told = path_findings(policy.paths, user) if user is not None else ()
                problems += [one for one in told if isinstance(one, Problem)]
            except ConfigError as error:
                problems += error.problems
    if policy is not None and not problems:
        return policy
    if policy is not None:
        policy.close()
    found = ConfigError(settings.file_of(problems) if settings else path, problems, settings)
    found.files = tuple(dict.fromkeys((path, *tracked.files)))
    raise found


EMPTY = (
    "is empty: it may be about to be written, or the disk is full; write a comment into it to "
    "remove all settings, credentials too"
)


def starting_policy(
    path: Path,
    more_problems: Preflight = lambda _: (),
    context: BuildContext | None = None,
    *,
    content: bytes | None = None,
) -> Policy:
    """Build the policy that a server starts with: that of ``policy_from``, or if the present files
    are refused that of the last good ones. Raise the ``ConfigError`` of the present ones.
    """
    policy = None
    try:
        policy = policy_from(path, more_problems, context, content=content)
        refused = ConfigError(path, [Problem((), EMPTY)], policy.settings)
        refused.files = policy.files
        if not policy.settings.is_empty:
            return policy
    except ConfigError as error:
        refused = error
    found = last_good(state_folder(path, refused.salvaged), path)
    if policy is not None:
        if found is None or found[0].policy_hash == policy.policy_hash:
            return policy  # it was empty before, too
        policy.close()
    if found is None:
        raise refused
    kept, copies = found
    try:
        with reading(copies):
            policy = policy_from(path, more_problems, context)
    except ConfigError:
        raise refused from None
    policy.fallback = Fallback(kept, refused, changed_secrets(kept, policy.settings))
    policy.files = tuple(dict.fromkeys((*policy.files, *refused.files)))
    return policy


def _isolate(available: PluginSource, table: PluginTable, root: Path) -> BuiltPlugin:
    from pexpolicy.isolation.isolated_plugin import build_isolated  # noqa: PLC0415 - only when configured

    return build_isolated(available, table, root)


def _undeclared(told: Descriptions, names_of: Names, settings: Settings) -> Iterable[Problem]:
    """Yield a problem for each static decision that names an object missing in ``[infinity]`` of
    an environment to which the plugin is limited, or in all if it is limited to none.
    """
    for plugin, items in told.decisions.items():
        limits = settings.plugins[plugin].environments
        environments = limits or (None, *settings.environments)
        checked = tuple(dict.fromkeys(names_of[one] for one in environments if one in names_of))
        for key, decision in items:
            place, found = ("plugins", plugin, "settings", *key), list[Problem]()
            for names in checked:
                names.record(place, decision, () if limits else checked)
                try:
                    names.check(decision)
                except DecisionError as error:
                    found.append(Problem((*place, error.refusal.field), error.refusal.rule))
            if limits or len(found) == len(checked):
                yield from found if limits else found[:1]


def _short_pins(told: Descriptions, least: int) -> Iterable[ConfigWarning]:
    """Yield a warning for each PIN of a plugin that is shorter than Infinity may accept."""
    text = (
        f"is shorter than [infinity] min_pin_length, which is {least}: write a longer one, or set "
        "the key to the value in the global settings of Infinity"
    )
    for plugin, items in told.decisions.items():
        for key, decision in items:
            for name in ("pin", "guest_pin"):
                if 0 < len(decision.set_fields().get(name) or "") < least:
                    yield ConfigWarning(("plugins", plugin, "settings", *key, name), text)


def config_warnings(settings: Settings, plugins: Sequence[BuiltPlugin]) -> Iterable[ConfigWarning]:
    """Yield the warnings about a configuration and its plugins."""
    if settings.server.allow_anonymous:
        text = "any client that reaches the port can ask for PINs; add [auth]"
        if settings.credentials:
            text = "has no effect, as [auth] has credentials that all calls need: leave it out"
        yield ConfigWarning(("server", "allow_anonymous"), text)
    yield from access_warnings(settings)
    needs = (
        (
            {"routes"},
            settings.admin.enabled,
            "its routes are not served, as admin.enabled is false",
        ),
        (
            {"api_routes"},
            settings.api,
            "its API is not served: write [api], a listener for programs",
        ),
        ({"on_event", "on_events"}, settings.events, "it gets no events: write [events]"),
    )
    for plugin in plugins:
        for hooks, is_there, text in needs:
            if not is_there and not hooks.isdisjoint(plugin.hooks):
                yield ConfigWarning(("plugins", plugin.name), text)
        if plugin.table.may_admit and not any(hook.startswith(ADJUST) for hook in plugin.hooks):
            text = "has no effect: this plugin adjusts no decision; leave it out"
            yield ConfigWarning(("plugins", plugin.name, "may_admit"), text)
        if plugin.can_reject and plugin.table.on_error == "skip" and plugin.table.mode == "decide":
            text = (
                "this plugin can reject, but when it fails the next one is asked: write "
                'on_error = "reject" if no call may pass while it is down'
            )
            yield ConfigWarning(("plugins", plugin.name, "on_error"), text)
