"""Building and ordering plugins, and what they are for a policy."""

from __future__ import annotations

import dis
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pexpolicy.chain.background import Observer
from pexpolicy.chain.bound_hook import BoundHook
from pexpolicy.chain.circuit_breaker import CircuitBreaker
from pexpolicy.chain.thread_pool import PluginThreadPool
from pexpolicy.config.problems import ConfigWarning, Key, Problem
from pexpolicy.config.progress import Stage, silent
from pexpolicy.config.schema.plugins import PluginTable
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.errors import describe_error
from pexpolicy.models.decision import Decision, Reject
from pexpolicy.plugins.discovery import PluginSource, filename_hint
from pexpolicy.plugins.errors import PluginBuildError
from pexpolicy.plugins.hook_check import collect_hooks
from pexpolicy.plugins.instantiate import instantiate
from pexpolicy.text import did_you_mean

if TYPE_CHECKING:
    from pexpolicy.plugins.isolation.isolated_plugin import IsolatedPlugin

NO_DECISION = ("lifespan", "check", "prepared", "decided", "status", "watched")


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin that was built: what it was made of, and its hooks by name."""

    available: PluginSource
    table: PluginTable
    instance: object
    hooks: Mapping[str, Callable[..., Any]]
    threads: PluginThreadPool | None
    deprecated: tuple[str, ...] = ()
    """What to say of hooks that will go."""
    isolated: IsolatedPlugin | None = None
    """The processes that the plugin lives in, where it has its own."""

    @property
    def name(self) -> str:
        """Its name in the configuration, in the audit line and everywhere else."""
        return self.available.name

    @property
    def can_reject(self) -> bool:
        """What it says itself; else true when its module knows ``Reject`` and it is asked where a
        reject exists: a good guess.
        """
        if self.isolated is not None:
            return self.isolated.can_reject
        told = getattr(self.instance, "can_reject", None)
        if isinstance(told, bool):
            return told
        asked = any(name in ENDPOINTS and ENDPOINTS[name].can_reject for name in self.hooks)
        module = sys.modules.get(type(self.instance).__module__)
        return asked and any(value is Reject for value in vars(module or object).values())

    def lifespan(self) -> AbstractAsyncContextManager[Any] | None:
        """What the plugin opens while its policy serves, if anything."""
        opened = self.hooks.get("lifespan")
        return opened() if opened is not None else None

    def prepared(self) -> Iterable[tuple[Key, Decision]]:
        """The decisions that never change, with the keys that they come from."""
        told = self.hooks.get("prepared")
        return told() if told is not None else ()

    def close(self) -> None:
        """Let the threads and the processes of the plugin go."""
        if self.threads is not None:
            self.threads.close()
        if self.isolated is not None:
            self.isolated.close()


def build(
    tables: Mapping[str, PluginTable],
    found: Mapping[str, PluginSource],
    root: Path,
    stage: Stage = silent,
    directories: Sequence[Path] = (),
) -> tuple[list[Plugin], list[Problem]]:
    """Build each configured plugin, in the order in which they are asked; all errors at once.

    ``root`` is what relative paths in the settings are relative to. In ``directories`` is looked
    for files that are no plugins for their names.
    """
    plugins: list[Plugin] = []
    problems: list[Problem] = []
    for name, table in sorted(tables.items(), key=lambda item: item[1].priority):
        key: Key = ("plugins", name)
        if (available := found.get(name)) is None:
            guess = filename_hint(name, directories) or did_you_mean(name, found)
            guess = guess or "; installed: " + (", ".join(found) or "none")
            problems.append(Problem(key, f"no plugin of this name is installed{guess}"))
            continue
        stage(f"building the plugin {name}")
        try:
            plugins.append(_build_one(available, table, root))
        except PluginBuildError as error:
            problems += [Problem((*key, *problem.key), problem.text) for problem in error.problems]
    return plugins, problems


def _build_one(available: PluginSource, table: PluginTable, root: Path) -> Plugin:
    if table.isolation == "process":
        return _build_apart(available, table, root)
    instance = instantiate(available, table, root)
    implemented, deprecated = collect_hooks(available, instance)
    if not implemented:
        raise PluginBuildError([Problem((), f"{available} implements no hook")])
    threads = None
    if any(
        _blocks(implemented[name])
        for name in implemented
        if name not in ("lifespan", "check", "prepared", "watched")
    ):
        threads = PluginThreadPool(available.name, table.threads)
    return Plugin(available, _without_settings(table), instance, implemented, threads, deprecated)


def _build_apart(available: PluginSource, table: PluginTable, root: Path) -> Plugin:
    """A plugin in processes of its own; they build it, and its hooks ask them."""
    from pexpolicy.plugins.isolation.isolated_plugin import IsolatedPlugin  # noqa: PLC0415 - for those who ask for it only

    isolated = IsolatedPlugin.start(available, table, root)
    asked: dict[str, Callable[..., Any]] = {
        **isolated.hooks,
        "lifespan": isolated.lifespan,
        "check": lambda: isolated.advice,
        "watched": lambda: isolated.watched,
    }
    table = _without_settings(table)
    return Plugin(available, table, isolated, asked, threads=None, isolated=isolated)


def _without_settings(table: PluginTable) -> PluginTable:
    """What a table of 100,000 rooms was read from is not kept beside what was made of it."""
    return table.model_copy(update={"settings": {}})


def _blocks(function: Callable[..., Any]) -> bool:
    return not inspect.iscoroutinefunction(function)


def _may_wait(function: Callable[..., Any]) -> bool:
    """False for an ``async def`` without ``await``, ``async for`` and ``async with``: a coroutine
    waits by yielding, and its code has no instruction for that.
    """
    code = getattr(function, "__code__", None)
    if code is None or not code.co_flags & inspect.CO_COROUTINE:
        return True
    return any(step.opname == "YIELD_VALUE" for step in dis.get_instructions(code))


def bind_hook(plugin: Plugin, hook: str) -> BoundHook | None:
    """One plugin's place in the chain of a hook, or ``None`` where it does not implement it."""
    function = plugin.hooks.get(hook)
    if function is None:
        return None
    ask: Callable[[Any], Awaitable[Any]] = function
    if _blocks(function):
        threads = plugin.threads
        assert threads is not None

        async def ask(request: Any) -> Any:
            return await threads.run(function, request)

    table = plugin.table
    breaker = None
    if table.breaker is not None:
        breaker = CircuitBreaker(table.breaker.failures, table.breaker.window, table.breaker.pause)
    names = (plugin.name, hook)
    may_wait = ENDPOINTS[hook].check_may_wait or _may_wait(function)
    return BoundHook(plugin.name, ask, table.timeout, table.on_error, breaker, names, may_wait)


def bind_observer(plugin: Plugin) -> Observer | None:
    """The plugin as somebody who is told what was decided, or ``None`` where it does not ask for
    it.
    """
    function = plugin.hooks.get("decided")
    if function is None:
        return None
    tell: Callable[[Any], Awaitable[Any]] = function
    if _blocks(function):
        threads = plugin.threads
        assert threads is not None

        async def tell(outcome: Any) -> Any:
            await threads.run(function, outcome)

    return Observer(plugin.name, tell, plugin.table.timeout)


def plugin_warnings(plugins: Iterable[Plugin]) -> tuple[list[ConfigWarning], list[Problem]]:
    """What the plugins want administrators to know of their configuration."""
    advice: list[ConfigWarning] = []
    problems: list[Problem] = []
    for plugin in plugins:
        advice += [ConfigWarning(("plugins", plugin.name), text) for text in plugin.deprecated]
        if (asked := plugin.hooks.get("check")) is None:
            continue
        try:
            told = list(asked())
        except BaseException as error:  # noqa: BLE001 - a plugin raises what it likes
            text = f"{plugin.available}: its check failed: {describe_error(error).summary}"
            problems.append(Problem(("plugins", plugin.name), text))
        else:
            key = ("plugins", plugin.name, "settings")
            advice += [ConfigWarning((*key, *item.key), item.text) for item in told]
    return advice, problems


def tracked_files(plugins: Iterable[Plugin], root: Path) -> tuple[list[Path], list[Problem]]:
    """The files that the plugins were made of; ``root`` is what relative paths are relative to."""
    files: list[Path] = []
    problems: list[Problem] = []
    for plugin in plugins:
        files += plugin.available.files()
        if (asked := plugin.hooks.get("watched")) is None:
            continue
        try:
            files += [root / path for path in asked()]
        except BaseException as error:  # noqa: BLE001 - a plugin raises what it likes
            text = f"{plugin.available}: its watched failed: {describe_error(error).summary}"
            problems.append(Problem(("plugins", plugin.name), text))
    return files, problems
