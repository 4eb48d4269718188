"""The builder of a policy from settings, used by serve, check, explain and tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pexpolicy.access.warnings import access_warnings
from pexpolicy.background.sources import SharedResources, SourceLease
from pexpolicy.chain.background import BackgroundTasks
from pexpolicy.chain.chain import Chain, Clock
from pexpolicy.chain.fold import (
    ADJUST,
    AdjustedChain,
    adjusting_chain,
    merging_chain,
)
from pexpolicy.config.audit_paths import audit_path_warnings
from pexpolicy.config.build_options import BuildOptions
from pexpolicy.config.environment import variable_warnings
from pexpolicy.config.file_modes import mode_warnings
from pexpolicy.config.file_tracking import hash_with, tracking_files
from pexpolicy.config.loader import load
from pexpolicy.config.problems import ConfigWarning, Problem
from pexpolicy.config.progress import Stage, silent
from pexpolicy.config.schema.plugins import PluginTable
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import Endpoint
from pexpolicy.endpoints.object_names import ObjectNames
from pexpolicy.errors import Log
from pexpolicy.models.decision import Decision, Reject
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.wall_clock import using_wall_clock
from pexpolicy.plugins.binding import bind_adjuster, bind_hook, bind_observer
from pexpolicy.plugins.discovery import PluginSource, discover, reimported
from pexpolicy.plugins.instantiate import driver
from pexpolicy.plugins.plugin import (
    BuiltPlugin,
    build,
    plugin_warnings,
    static_decisions,
    tracked_files,
)
from pexpolicy.policy import Policy, StaticDecisions

if TYPE_CHECKING:
    from pexpolicy.plugins.routes import PluginRoutes

_ORDERED = frozenset(hook for name in ENDPOINTS for hook in (name, ADJUST + name))
"""The hooks whose plugins are asked in the order of their priorities."""


def build_policy(  # noqa: PLR0913 - each is a keyword
    settings: Settings,
    *,
    available: Mapping[str, PluginSource] | None = None,
    log: Log | None = None,
    clock: Clock = time.perf_counter,
    stage: Stage = silent,
    file_warnings: Iterable[ConfigWarning] = (),
    host: SharedResources | None = None,
    options: BuildOptions | None = None,
) -> Policy:
    """Build the policy of a configuration; raise ``ConfigError`` with every problem.

    ``available`` are the plugins to choose from, by default the installed ones and those of
    ``plugin_dirs``. ``file_warnings`` are about the files that the settings were read from.
    ``host`` is what it shares with the other policies of this process.
    """
    options = options or BuildOptions()
    settings = options.applied_to(settings)
    found, problems = discover(settings.plugin_dirs) if available is None else (available, [])
    if options.reloads_sources:
        found = {name: reimported(source) for name, source in found.items()}
    root = settings.path.parent
    host = host or SharedResources()
    is_complete = "sources" not in settings.wrong
    sources = SourceLease(host, settings.sources, root, driver, is_complete=is_complete)
    with sources.resolving(), using_wall_clock(options.wall_clock):
        plugins, unbuilt = build(settings.plugins, found, root, isolate=_isolate, stage=stage)
    warnings, failed = plugin_warnings(plugins)
    names = ObjectNames(settings.infinity) if settings.infinity else None
    decisions, unusable = static_decisions(plugins)
    unknown = list(_undeclared(decisions, names)) if names is not None else []
    files, unnamed = tracked_files(plugins, root)
    routes, unroutable = _routes(plugins)
    problems = [*problems, *sources.problems, *unbuilt, *failed, *unusable, *unknown]
    problems += [*unnamed, *unroutable]
    if problems:
        sources.release()
        for plugin in plugins:
            plugin.close()
        raise ConfigError(settings.path, problems)

    files += sources.files
    settings = replace(
        settings,
        sources={},
        config_hash=hash_with(settings.config_hash, files),
        plugins={plugin.name: plugin.table for plugin in plugins},
    )

    def chain(endpoint: Endpoint[Any], members: Iterable[BuiltPlugin], budget: float) -> Chain:
        links = tuple(step for p in members if (step := bind_hook(p, endpoint.name)) is not None)
        make = merging_chain if _merges(endpoint, settings) else Chain
        default = _default(endpoint, settings)
        return make(endpoint, links, default, budget, clock=clock, log=log, names=names)

    def adjusters(endpoint: Endpoint[Any], members: Iterable[BuiltPlugin], budget: float) -> Chain:
        links = tuple(s for p in members if (s := bind_adjuster(p, endpoint.name)) is not None)
        return adjusting_chain(endpoint, links, budget, clock=clock, log=log, names=names)

    def adjusted_chain(endpoint: Endpoint[Any]) -> Chain | AdjustedChain:
        decides = chain(endpoint, deciding, settings.server.budget)
        adjusts = adjusters(endpoint, deciding, settings.server.budget)
        return AdjustedChain(decides, adjusts) if adjusts.links else decides

    deciding = [plugin for plugin in plugins if plugin.table.mode == "decide"]
    shadows = [plugin for plugin in plugins if plugin.table.mode == "shadow"]
    shadow_chains = {
        name: [c for p in shadows if (c := chain(e, [p], p.table.timeout)).links]
        for name, e in ENDPOINTS.items()
    }
    shadow_adjusters = {
        name: [a for p in shadows if (a := adjusters(e, [p], p.table.timeout)).links]
        for name, e in ENDPOINTS.items()
    }
    observers = [o for plugin in plugins if (o := bind_observer(plugin)) is not None]
    return Policy(
        settings,
        tuple(plugins),
        {name: adjusted_chain(endpoint) for name, endpoint in ENDPOINTS.items()},
        BackgroundTasks(shadow_chains, observers, log, settings.config_hash, shadow_adjusters),
        warnings=(
            *config_warnings(settings, plugins),
            *_doubtful_values(decisions, settings.min_pin_length),
            *file_warnings,
            *warnings,
            *(ConfigWarning(("sources", n), "no plugin uses it") for n in sources.unused),
        ),
        log=log,
        host=host,
        sources=sources,
        files=(settings.path, *settings.secret_files, *files),
        routes=routes,
        wall_clock=options.wall_clock,
        static_decisions=decisions if options.keeps_static_decisions else {},
    )


def policy_from(
    path: Path,
    more_problems: Callable[[Settings], list[Problem]] = lambda _: [],
    *,
    log: Log | None = None,
    stage: Stage = silent,
    content: bytes | None = None,
    host: SharedResources | None = None,
    options: BuildOptions | None = None,
) -> Policy:
    """Build the policy of a configuration file; raise ``ConfigError`` with every problem.

    ``more_problems`` finds further ones, such as a port that is in use. The usable part of a broken
    file is built as well, so that the problems of its plugins are reported too. ``content`` is the
    content of the file where the caller has read it already.
    """
    with tracking_files() as files:
        try:
            return _policy_from(path, more_problems, log, stage, content, host, options)
        except ConfigError as error:
            error.files = tuple(dict.fromkeys((path, *files)))
            raise


def _policy_from(
    path: Path,
    more_problems: Callable[[Settings], list[Problem]],
    log: Log | None,
    stage: Stage,
    content: bytes | None,
    host: SharedResources | None,
    options: BuildOptions | None,
) -> Policy:
    try:
        settings = load(path, stage, content=content)
    except ConfigError as error:
        if error.salvaged is None:
            raise
        problems = [*error.problems, *more_problems(error.salvaged)]
        try:
            build_policy(error.salvaged).close()
        except ConfigError as more:
            problems += more.problems
        raise ConfigError(path, problems) from None
    problems = more_problems(settings)
    try:
        modes = mode_warnings(settings)
        policy = build_policy(
            settings, log=log, stage=stage, file_warnings=modes, host=host, options=options
        )
    except ConfigError as error:
        raise ConfigError(path, [*problems, *error.problems]) from None
    if problems:
        policy.close()
        raise ConfigError(path, problems)
    return policy


def _isolate(available: PluginSource, table: PluginTable, root: Path) -> BuiltPlugin:
    from pexpolicy.isolation.isolated_plugin import build_isolated  # noqa: PLC0415 - only when configured

    return build_isolated(available, table, root)


def _routes(plugins: Sequence[BuiltPlugin]) -> tuple[Mapping[str, PluginRoutes], list[Problem]]:
    if not any("routes" in plugin.hooks for plugin in plugins):
        return {}, []
    from pexpolicy.plugins.routes import routes_of  # noqa: PLC0415 - it imports aiohttp

    return routes_of(plugins)


def _default(endpoint: Endpoint[Any], settings: Settings) -> Decision:
    table = settings.endpoints.get(endpoint.name)
    if table is not None and table.default == "reject":
        return Reject(reason="no plugin decided")
    return endpoint.default


def _merges(endpoint: Endpoint[Any], settings: Settings) -> bool:
    table = settings.endpoints.get(endpoint.name)
    return table is not None and table.combine == "merge"


def _undeclared(decisions: StaticDecisions, names: ObjectNames) -> Iterable[Problem]:
    """Yield a problem for each static decision that names an object missing in ``[infinity]``."""
    for plugin, items in decisions.items():
        for key, decision in items:
            try:
                names.check(decision)
            except DecisionError as error:
                refusal = error.refusal
                where = ("plugins", plugin, "settings", *key, refusal.field)
                yield Problem(where, refusal.rule)


def _doubtful_values(decisions: StaticDecisions, least: int) -> Iterable[ConfigWarning]:
    """Yield a warning for each PIN of a static decision shorter than Infinity may accept, and for
    each name with a blank at its start or end.
    """
    pin_text = (
        f"characters, and [infinity] min_pin_length is {least}: write a longer one, or set the key "
        "to the value in the global settings of Infinity"
    )
    for plugin, items in decisions.items():
        for key, decision in items:
            for name, value in decision.set_fields().items():
                text = ""
                if not isinstance(value, str):
                    continue
                if name in ("pin", "guest_pin") and 0 < len(value) < least:
                    text = f"has {len(value)} {pin_text}"
                elif name.endswith("name") and value != value.strip():
                    text = "has a blank at its start or end, and is sent with it: remove it"
                if text:
                    yield ConfigWarning(("plugins", plugin, "settings", *key, name), text)


def _same_priority(plugins: Sequence[BuiltPlugin]) -> Iterator[ConfigWarning]:
    """Yield a warning for plugins of one hook that only their order in the file ranks."""
    deciding = [plugin for plugin in plugins if plugin.table.mode == "decide"]
    reported: set[str] = set()
    for first, second in combinations(deciding, 2):
        shared = _ORDERED & first.hooks.keys() & second.hooks.keys()
        equal = first.table.priority == second.table.priority
        if shared and equal and second.name not in reported:
            reported.add(second.name)
            text = (
                f"{first.name} has priority {first.table.priority} too: {first.name} is asked "
                "first, as it is first in the file; give each a priority of its own"
            )
            yield ConfigWarning(("plugins", second.name, "priority"), text)


def config_warnings(settings: Settings, plugins: Sequence[BuiltPlugin]) -> Iterable[ConfigWarning]:
    """Yield the warnings about a configuration and its plugins."""
    if not settings.credentials and settings.server.allow_anonymous:
        text = "any client that reaches the port can ask for PINs; add [auth]"
        yield ConfigWarning(("server", "allow_anonymous"), text)
    elif settings.server.allow_anonymous:
        text = "has no effect, as [auth] has credentials that all calls need: leave it out"
        yield ConfigWarning(("server", "allow_anonymous"), text)
    yield from access_warnings(settings)
    yield from _same_priority(plugins)
    yield from audit_path_warnings(settings)
    yield from variable_warnings()
    for plugin in plugins:
        if "routes" in plugin.hooks and not settings.admin.enabled:
            text = "its routes are not served, as admin.enabled is false"
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
