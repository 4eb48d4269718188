"""The policy of one configuration: its plugins, six chains and background work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain, product
from typing import Any

import msgspec

from pexpolicy.access.warnings import core_paths
from pexpolicy.background.lifespan import Lifespan
from pexpolicy.background.refreshed import DataUnavailableError, Refreshed, looking_after
from pexpolicy.background.shared_state import SetupError, SharedState
from pexpolicy.background.sources import SharedResources, SourceLease
from pexpolicy.chain.background import BackgroundTasks, Observed, Shadowed, ignore
from pexpolicy.chain.chain import BoundHook, Chain, Clock
from pexpolicy.chain.hook_tasks import HookTasks, Watchdog, Work
from pexpolicy.config.files import FileUser, NamedPath
from pexpolicy.config.problems import ConfigWarning, PluginBuildError, Problem
from pexpolicy.config.settings import ConfigError, PluginStartupError, Settings
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import Reply
from pexpolicy.endpoints.object_names import ObjectNames
from pexpolicy.errors import Log, PluginFailureLog, describe_error
from pexpolicy.fleet.last_good import Fallback
from pexpolicy.fleet.policy_hash import PolicyInputs
from pexpolicy.log import LogLevels, level_number
from pexpolicy.models.context import WallClock
from pexpolicy.models.outcome import DEFAULT, Outcome
from pexpolicy.models.request import Request, set_call
from pexpolicy.plugins.binding import Descriptions, bind_observer
from pexpolicy.plugins.plugin import BuiltPlugin

NO_LIMIT_S = 86_400.0
"""A day, for time limits while a plugin is debugged."""
UNRECORDED = "audit unavailable"
"""The reason of the reply to a call whose audit line could not be stored."""


class Answer(msgspec.Struct, frozen=True):
    """The outcome of one call, and its reply."""

    outcome: Outcome
    reply: Reply


Chains = Mapping[type[Request], Chain]
"""The chains of the plugins that are asked about some calls, by the class of the request."""
EVERY = "*"
"""In place of an environment: the chains of all plugins, where some are asked about some calls."""


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What a policy is built with, in addition to its settings."""

    log: Log | None = None
    shared: SharedResources = field(default_factory=SharedResources)
    """What the policies of this process share."""
    clock: Clock = time.perf_counter
    """The clock of time limits."""
    time_limits: bool = True
    """False: no plugin is late, and the budget lasts a day."""
    is_repeatable: bool = False
    """True: no circuit breakers, and no plugin in processes of its own, whose clock is not set."""
    file_user: FileUser | None = None
    """The user as which files are judged, if it is not the one of this process."""
    wall_clock: WallClock = time.time
    """The clock of conditions on the time; seconds since 1970."""
    state_in_memory: bool = False
    """True: shared state is kept by each plugin in memory, as in tests; a command only reads it."""
    keeps_static_decisions: bool = False
    """True: the policy keeps the decisions that never change, with the keys that they come from."""

    def applied_to(self, settings: Settings) -> Settings:
        """Return the settings to build: without time limits, or without other dependencies."""
        changes: dict[str, object] = {}
        if not self.time_limits:
            server = settings.server.model_copy(update={"budget": NO_LIMIT_S})
            settings = settings.model_copy(update={"server": server})
            changes["timeout"] = NO_LIMIT_S
        if self.is_repeatable:
            changes |= {"breaker": False, "isolation": "none"}
        tables = settings.plugins.items()
        plugins = {name: table.model_copy(update=changes) for name, table in tables}
        return settings.model_copy(update={"plugins": plugins})


def release(plugins: Iterable[BuiltPlugin], sources: SourceLease) -> None:
    """Release what never served."""
    sources.release()
    for plugin in plugins:
        plugin.close()


class Policy:
    """The policy of one configuration; immutable. It answers inside ``serving()``."""

    all_names: tuple[ObjectNames, ...] = ()
    """The names of Infinity, if any are known, and those of each environment that has others."""
    platforms: Mapping[str, Any]
    """The drivers of the Management API by the source of events."""

    def __init__(
        self,
        settings: Settings,
        plugins: tuple[BuiltPlugin, ...],
        sources: SourceLease,
        told: Descriptions,
        chains: Mapping[str | None, Chains],
        context: BuildContext,
        inputs: PolicyInputs,
    ) -> None:
        self.settings = settings
        self.inputs = inputs
        """What it was built from."""
        self.fallback: Fallback | None = None
        """Set where it was built from the last good files."""
        self.policy_hash = inputs.policy_hash
        self.context = context
        self.plugins = plugins
        self.sources = sources
        self.files = tuple(told.files)
        """All files that it was built from; when one of them changes, it is out of date."""
        self._told = told
        self.routes = told.routes
        """The HTTP routes of each plugin that has any."""
        self.api_routes = told.api_routes
        """Those on the listener of ``[api]``."""
        self.static_decisions = told.decisions if context.keeps_static_decisions else {}
        """Kept for dry runs only, as the keys of 100,000 rooms would take much memory."""
        told.decisions = {}
        self._chains = chains
        """Those of each environment, and of the calls of none."""
        self._all_chains = [
            one for some in chains.values() for c in some.values() for one in (c, *c.shadows)
        ]
        found = (bind_observer(plugin) for plugin in plugins)
        background = BackgroundTasks(filter(None, found), context.log)
        self._background = background
        self.has_background_work = bool(background.observers) or any(
            c.shadows for c in self._all_chains
        )
        """True where ``run_background`` has something to do."""
        self.observers = background.observers
        """The queues of the plugins that observe decisions."""
        named = settings.nodes.event_sources
        found = (bind_observer(plugin, "on_event", named) for plugin in plugins)
        observers = [*filter(None, found)]
        self.event_observers = observers if settings.events is not None else None
        """The plugins that get events; ``None`` where no events are received."""
        self._log = context.log
        self._tasks: HookTasks | None = None
        self._is_dry_run = False
        self.shared_state: SharedState | None = None
        """What it shares with other processes, while it serves."""
        self.lifespans: dict[str, Lifespan] = {}
        """What is open while the policy serves, by the name of a plugin or ``sources.NAME``."""

    @property
    def paths(self) -> list[NamedPath]:
        """All paths that the configuration names; files are read for them."""
        of_plugins = (one.paths for one in (*self.plugins, *self.sources))
        own = map(NamedPath, self.files)
        return [*core_paths(self.settings), *chain(*of_plugins), *own]

    @cached_property
    def warnings(self) -> tuple[ConfigWarning, ...]:
        """The warnings about the configuration, found when they are first asked for."""
        found = (ConfigWarning(one.key, one.text) for one in self._told.core_warnings())
        return tuple(dict.fromkeys((*found, *self._told.warnings)))

    def take_over(self, previous: Policy) -> None:
        """Start with the refreshed data of another policy, where plugin and key are the same.

        Its observers leave what they cannot deliver to those of this policy.
        """
        queues = {queue.plugin: queue for queue in self.observers}
        for queue in previous.observers:
            queue.successor = queues.get(queue.plugin)
        before = dict(previous._refreshed())
        for owner, refreshed in self._refreshed():
            for data, old in product(refreshed, before.get(owner, ())):
                if data is not old:
                    data.take_over(old)

    def _refreshed(self) -> Iterator[tuple[tuple[str, type], Sequence[Refreshed[Any]]]]:
        """Yield the refreshed data by its owner; another class may have values of another type."""
        for plugin in self.plugins:
            yield (plugin.name, type(plugin.instance)), plugin.refreshed
        for source in self.sources:
            yield (f"sources.{source.name}", type(source.driver)), source.refreshed

    @asynccontextmanager
    async def serving(self, *, in_server: bool = False) -> AsyncIterator[Policy]:
        """Enter the lifespans of the plugins, and leave them at the end.

        Only ``in_server`` jobs run and cache files are written: a dry run must change nothing.
        Raises ``PluginStartupError`` for plugins whose lifespan fails, and ``ConfigError`` where it
        can never succeed.
        """
        async with AsyncExitStack() as stack:
            tasks = HookTasks(asyncio.get_running_loop())
            stack.push_async_callback(tasks.close)
            for plugin in self.plugins:
                stack.callback(plugin.close)
            stack.push_async_callback(self.sources.close)
            await self._open_state(stack, in_server=in_server)
            await self._open_sources(in_server=in_server)
            await self._open_plugins(stack, in_server=in_server)
            if self._log is not None and self.context.time_limits:
                stack.enter_context(Watchdog(tasks, self._log, self.log_levels.modules))
            stack.push_async_callback(self._background.finish)
            self._background.open()
            self._tasks = tasks
            for names in self.all_names if in_server else ():
                if (source := names.source) is not None and (log := self._log) is not None:
                    names.warn_of_new(ignore)  # those of the start are among the findings
                    source.on_names.append(look := partial(names.warn_of_new, log.warning))
                    stack.callback(source.on_names.remove, look)
            if in_server and self.shared_state is not None:
                owned = ((owner, one) for (owner, _), data in self._refreshed() for one in data)
                named = {f"{owner}/{one.name}": one for owner, one in owned}
                await stack.enter_async_context(looking_after(self.shared_state, named))
            yield self

    async def _open_state(self, stack: AsyncExitStack, *, in_server: bool) -> None:
        """Give the plugins their shared state; raise ``ConfigError`` where it can never be used."""
        self._is_dry_run = not in_server and not self.context.state_in_memory
        items = [(plugin.name, item) for plugin in self.plugins for item in plugin.shared]
        if self.context.state_in_memory and not in_server:
            # One for all, as plugins may declare several parts of the same tables.
            self.shared_state = items[0][1].state if items else None
            for name, item in items:
                if not item.is_open:
                    item.bind(name, items[0][1].state)
            return
        if not (in_server or items or self.settings.shared.url):
            return  # a dry run that would read nothing of it
        opening = self.context.shared.shared_state(self.settings, self._log, in_server=in_server)
        try:
            self.shared_state = state = await stack.enter_async_context(opening)
            for name, item in items:
                item.bind(name, state)
            if items:
                await state.check()
        except SetupError as error:
            raise ConfigError(self.settings.path, [Problem(("shared",), str(error))]) from None

    async def _open_plugins(self, stack: AsyncExitStack, *, in_server: bool) -> None:
        """Enter the lifespans of all plugins; raise ``ConfigError`` with the problems of all."""
        problems: list[Problem] = []
        kind: type[ConfigError] = PluginStartupError
        for plugin in self.plugins:
            key = ("plugins", plugin.name)
            try:
                self.lifespans[plugin.name] = opened = Lifespan(
                    plugin.name,
                    plugin.lifespan(),
                    self._log,
                    plugin.refreshed,
                    plugin.jobs,
                    history=self.context.shared.history if in_server else None,
                    state=self.shared_state,
                    timeout=plugin.table.timeout,
                )
                stack.push_async_callback(opened.close)
                await opened.open()
            except PluginBuildError as error:
                kind = ConfigError
                problems += [Problem(key, one.text, error) for one in error.problems]
            except BaseException as error:
                task = asyncio.current_task()
                if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
                    raise  # not an error of the plugin's own
                report = describe_error(error)
                failures = PluginFailureLog(self._log, "lifespan")
                if in_server or failures.is_full:  # a command prints the problem
                    failures.failed("plugin failed", plugin.name, report, 0.0)
                what = f"lifespan failed: {report.summary}"
                if isinstance(error, DataUnavailableError):
                    what = f"data {str(error).removeprefix('data ')}"
                text = f"{plugin.available}: its {what}"
                problems.append(Problem(key, text, error))
        if problems:
            raise kind(self.settings.path, problems)

    async def _open_sources(self, *, in_server: bool) -> None:
        try:
            await self.sources.open(self._log, in_server=in_server)
        except PluginBuildError as error:
            raise PluginStartupError(self.settings.path, error.problems) from None
        opened = (source.lifespan for source in self.sources)
        self.lifespans |= {lifespan.name: lifespan for lifespan in opened if lifespan is not None}

    @property
    def log_levels(self) -> LogLevels:
        """The levels of log lines, and the modules of the plugins."""
        modules: dict[str, str] = {}
        for plugin in (one for one in self.plugins if not one.is_isolated):
            # A module or package with several plugins belongs to none of them.
            for module in {plugin.module, plugin.module.partition(".")[0]}:
                modules[module] = "" if module in modules else plugin.name
        levels = {p.name: level_number(p.table.log_level or "info") for p in self.plugins}
        return LogLevels(level_number(self.settings.log.level), levels, modules)

    def close(self) -> None:
        """Release a policy that never served."""
        release(self.plugins, self.sources)

    @property
    def abandoned(self) -> list[str]:
        """Plugins and hooks that were abandoned and have not returned."""
        waiting = self._tasks.abandoned if self._tasks is not None else []
        stuck = [plugin.name for plugin in self.plugins if plugin.threads.running]
        observing = [queue.plugin for queue in self.observers if queue.attempts.is_stuck]
        return sorted({*waiting, *stuck, *observing})

    def links(self) -> Iterator[BoundHook]:
        """Yield each plugin in each chain, those of adjusters and shadows included."""
        yield from dict.fromkeys(link for chain in self._all_chains for link in chain.links)

    @property
    def chains(self) -> dict[str, Chain]:
        """The chains of all plugins by endpoint; calls go through those of their environment."""
        every = self._chains.get(EVERY, self._chains[None])
        return {chain.endpoint.name: chain for chain in every.values()}

    def _chain_of(self, request: Request) -> Chain:
        return (self._chains.get(request.environment) or self._chains[None])[type(request)]

    async def answer(self, request: Request, decision_id: str) -> Answer:
        """Answer one request; its class determines the endpoint."""
        chain = self._chain_of(request)
        assert self._tasks is not None, "the policy is not serving"
        set_call(request, decision_id, dry_run=self._is_dry_run)
        outcome = await chain.ask(request, self._tasks, decision_id)
        reply = chain.endpoint.reply(outcome.decision, decision_id, outcome.decided_by)
        return Answer(outcome, reply)

    def run_background(
        self, outcome: Outcome, observed: Observed = ignore, shadowed: Iterable[Shadowed] = ()
    ) -> None:
        """Ask the shadow plugins and notify the observers, after the reply has left."""
        if self.has_background_work and self._tasks is not None:
            shadows = self._chain_of(outcome.request).shadows
            self._background.start(outcome, shadows, self._tasks, observed, shadowed)

    async def run(self, work: Work, timeout: float) -> bool:  # noqa: ASYNC109 - work never raises
        """Run work of a plugin in a task of its own; false if it was abandoned as late."""
        assert self._tasks is not None, "the policy is not serving"
        return await self._tasks.run(work, timeout)

    def internal_error_answer(self, request: Request, decision_id: str) -> Answer:
        """Return the answer to a call that an internal error kept from being decided.

        If a plugin with ``on_error = "reject"`` could not be asked, the call is rejected.
        """
        chain = self._chain_of(request)
        guarded = any(link.on_error == "reject" for link in chain.links)
        decision = chain.endpoint.refusal if guarded else chain.default
        outcome = Outcome(decision_id, chain.endpoint.name, request, decision, DEFAULT, [])
        return Answer(outcome, chain.endpoint.reply(decision, decision_id, DEFAULT))

    def audit_failure_answer(self, outcome: Outcome, *, rejects: bool) -> Answer:
        """Return the answer instead of one that must not leave, as its audit line is not stored.

        It carries no decision of a plugin: Infinity continues by itself, or rejects the call.
        """
        endpoint = ENDPOINTS[outcome.endpoint]
        kind = endpoint.refusal if rejects else endpoint.default
        decision = kind.with_reason(UNRECORDED)
        replaced = msgspec.structs.replace(outcome, decision=decision, decided_by=DEFAULT)
        return Answer(replaced, endpoint.reply(decision, outcome.decision_id, DEFAULT))
