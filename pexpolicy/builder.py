"""The builder of a policy from settings, used by serve, check, explain and tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pexpolicy.access.warnings import access_warnings
from pexpolicy.background.sources import SourceLease
from pexpolicy.chain.background import BackgroundTasks
from pexpolicy.chain.chain import Chain
from pexpolicy.chain.fold import ADJUST, AdjustedChain, adjusting_chain, merging_chain
from pexpolicy.config.file_warnings import audit_warnings, mode_warnings
from pexpolicy.config.files import hash_with, tracking_files
from pexpolicy.config.loader import load
from pexpolicy.config.problems import ConfigWarning, Problem
from pexpolicy.config.schema.plugins import PluginTable
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import Endpoint
from pexpolicy.endpoints.object_names import ObjectNames
from pexpolicy.models.context import using_wall_clock
from pexpolicy.models.decision import Decision, Reject
from pexpolicy.models.errors import DecisionError
from pexpolicy.plugins.binding import (
    Descriptions,
    bind_adjuster,
    bind_hook,
    bind_observer,
    describe,
)
from pexpolicy.plugins.discovery import PluginSource, discover
from pexpolicy.plugins.plugin import BuiltPlugin, build, driver
from pexpolicy.policy import BuildContext, PluginSet, Policy


def build_policy(
    settings: Settings,
    *,
    available: Mapping[str, PluginSource] | None = None,
    context: BuildContext | None = None,
    file_warnings: Iterable[ConfigWarning] = (),
) -> Policy:
    """Build the policy of a configuration; raise ``ConfigError`` with every problem.

    ``available`` are the plugins to choose from, by default the installed ones and those of
    ``plugin_dirs``. ``file_warnings`` are about the files that the settings were read from.
    """
    context = context or BuildContext()
    settings = context.applied_to(settings)
    found, problems = discover(settings.plugin_dirs) if available is None else (available, [])
    root = settings.path.parent
    is_complete = "sources" not in settings.wrong
    tables = settings.sources
    sources = SourceLease(context.shared, tables, root, driver, is_complete=is_complete)
    with sources.resolving(), using_wall_clock(context.wall_clock):
        plugins, unbuilt = build(
            settings.plugins, found, root, sources=sources, isolate=_isolate, stage=context.stage
        )
    told, failed = describe(plugins, root)
    names = ObjectNames(settings.infinity) if settings.infinity else None
    problems = [*problems, *sources.problems, *unbuilt, *failed, *_undeclared(told, names)]
    built = PluginSet(tuple(plugins), sources, told)
    if problems:
        built.close()
        raise ConfigError(settings.path, problems)

    told.files += sources.files
    settings = replace(
        settings,
        sources={},
        config_hash=hash_with(settings.config_hash, told.files),
        plugins={plugin.name: plugin.table for plugin in plugins},
    )
    told.files[:0] = (settings.path, *settings.secret_files)
    told.warnings[:0] = _doubtful_values(told, settings.min_pin_length)
    told.warnings += [ConfigWarning(("sources", n), "no plugin uses it") for n in sources.unused]

    def warnings() -> Iterator[ConfigWarning]:
        yield from config_warnings(settings, plugins)
        yield from file_warnings
        yield from told.warnings

    chains = _Chains(settings, context, names)
    deciding = [plugin for plugin in plugins if plugin.table.mode == "decide"]
    return Policy(
        settings,
        built,
        {name: chains.adjusted(endpoint, deciding) for name, endpoint in ENDPOINTS.items()},
        chains.background(plugins),
        context,
        warnings,
    )


@dataclass(frozen=True, slots=True)
class _Chains:
    """Makes the chains of a policy."""

    settings: Settings
    context: BuildContext
    names: ObjectNames | None

    def deciding(
        self, endpoint: Endpoint[Any], members: Iterable[BuiltPlugin], budget: float
    ) -> Chain:
        """Return the chain of the plugins that decide."""
        links = tuple(step for p in members if (step := bind_hook(p, endpoint.name)) is not None)
        table = self.settings.endpoints.get(endpoint.name)
        default: Decision = endpoint.default
        if table is not None and table.default == "reject":
            default = Reject(reason="no plugin decided")
        make = merging_chain if self._merges(endpoint) else Chain
        clock, log = self.context.clock, self.context.log
        return make(endpoint, links, default, budget, clock=clock, log=log, names=self.names)

    def adjusting(
        self, endpoint: Endpoint[Any], members: Iterable[BuiltPlugin], budget: float
    ) -> Chain:
        """Return the chain of the plugins that adjust decisions."""
        links = tuple(s for p in members if (s := bind_adjuster(p, endpoint.name)) is not None)
        clock, log = self.context.clock, self.context.log
        return adjusting_chain(endpoint, links, budget, clock=clock, log=log, names=self.names)

    def adjusted(
        self, endpoint: Endpoint[Any], members: Sequence[BuiltPlugin]
    ) -> Chain | AdjustedChain:
        """Return the chain that decides, and adjusts the decision if a plugin does."""
        decides = self.deciding(endpoint, members, self.settings.server.budget)
        adjusts = self.adjusting(endpoint, members, self.settings.server.budget)
        return AdjustedChain(decides, adjusts) if adjusts.links else decides

    def background(self, plugins: Iterable[BuiltPlugin]) -> BackgroundTasks:
        """Return the chains of shadow plugins, one for each, and the observers."""
        shadows = [plugin for plugin in plugins if plugin.table.mode == "shadow"]

        def each(
            make: Callable[[Endpoint[Any], Iterable[BuiltPlugin], float], Chain],
        ) -> dict[str, list[Chain]]:
            return {
                name: [c for p in shadows if (c := make(e, [p], p.table.timeout)).links]
                for name, e in ENDPOINTS.items()
            }

        observers = [o for plugin in plugins if (o := bind_observer(plugin)) is not None]
        log, config_hash = self.context.log, self.settings.config_hash
        deciding, adjusting = each(self.deciding), each(self.adjusting)
        return BackgroundTasks(deciding, observers, log, config_hash, adjusting)

    def _merges(self, endpoint: Endpoint[Any]) -> bool:
        table = self.settings.endpoints.get(endpoint.name)
        return table is not None and table.combine == "merge"


def policy_from(
    path: Path,
    more_problems: Callable[[Settings], list[Problem]] = lambda _: [],
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
    with tracking_files() as files:
        try:
            return _policy_from(path, more_problems, context, content)
        except ConfigError as error:
            error.files = tuple(dict.fromkeys((path, *files)))
            raise


def _policy_from(
    path: Path,
    more_problems: Callable[[Settings], list[Problem]],
    context: BuildContext,
    content: bytes | None,
) -> Policy:
    problems: list[Problem] = []
    try:
        settings = load(path, context.stage, content=content)
    except ConfigError as error:
        if error.salvaged is None:
            raise
        problems, settings, context = [*error.problems], error.salvaged, BuildContext()
    problems += more_problems(settings)
    try:
        modes = mode_warnings(settings)
        policy = build_policy(settings, context=context, file_warnings=modes)
    except ConfigError as error:
        raise ConfigError(path, [*problems, *error.problems]) from None
    if problems:
        policy.close()
        raise ConfigError(path, problems)
    return policy


def _isolate(available: PluginSource, table: PluginTable, root: Path) -> BuiltPlugin:
    from pexpolicy.isolation.isolated_plugin import build_isolated  # noqa: PLC0415 - only when configured

    return build_isolated(available, table, root)


def _undeclared(told: Descriptions, names: ObjectNames | None) -> Iterable[Problem]:
    """Yield a problem for each static decision that names an object missing in ``[infinity]``."""
    if names is None:
        return
    for plugin, items in told.decisions.items():
        for key, decision in items:
            try:
                names.check(decision)
            except DecisionError as error:
                refusal = error.refusal
                where = ("plugins", plugin, "settings", *key, refusal.field)
                yield Problem(where, refusal.rule)


def _doubtful_values(told: Descriptions, least: int) -> Iterable[ConfigWarning]:
    """Yield a warning for each PIN of a plugin that is shorter than Infinity may accept, and for
    each name with a blank at its start or end.
    """
    short = (
        f"is shorter than [infinity] min_pin_length, which is {least}: write a longer one, or set "
        "the key to the value in the global settings of Infinity"
    )
    blank = "has a blank at its start or end, and is sent with it: remove it"
    for plugin, items in told.decisions.items():
        for key, decision in items:
            for name, value in decision.set_fields().items():
                place = ("plugins", plugin, "settings", *key, name)
                if not isinstance(value, str):
                    continue
                if name in ("pin", "guest_pin") and 0 < len(value) < least:
                    yield ConfigWarning(place, short)
                elif name.endswith("name") and value != value.strip():
                    yield ConfigWarning(place, blank)


def config_warnings(settings: Settings, plugins: Sequence[BuiltPlugin]) -> Iterable[ConfigWarning]:
    """Yield the warnings about a configuration and its plugins."""
    if not settings.credentials and settings.server.allow_anonymous:
        text = "any client that reaches the port can ask for PINs; add [auth]"
        yield ConfigWarning(("server", "allow_anonymous"), text)
    elif settings.server.allow_anonymous:
        text = "has no effect, as [auth] has credentials that all calls need: leave it out"
        yield ConfigWarning(("server", "allow_anonymous"), text)
    yield from access_warnings(settings)
    yield from audit_warnings(settings)
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
