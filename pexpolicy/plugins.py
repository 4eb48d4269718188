"""Finding, checking, building and ordering plugins; the only user of pluggy's PluginManager."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import pluggy
import pydantic
from pydantic import BaseModel

from pexpolicy import hooks
from pexpolicy.chain import Link
from pexpolicy.config import (
    Advice,
    Key,
    PluginSettings,
    PluginTable,
    Problem,
    SettingsError,
    problems_of,
)
from pexpolicy.faults import blame
from pexpolicy.refusal import did_you_mean
from pexpolicy.threads import Threads

GROUP = "pexpolicy"
NO_DECISION = ("lifespan", "check")

State = Literal["active", "available"]


@dataclass(frozen=True, slots=True)
class Available:
    """An installed plugin: its name, the distribution that brought it, and how to import its class."""

    name: str
    distribution: str
    version: str
    source: str
    load: Callable[[], Any]

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin that was built: what it was made of, and its hooks by name."""

    available: Available
    table: PluginTable
    instance: object
    hooks: Mapping[str, Callable[..., Any]]
    threads: Threads | None

    @property
    def name(self) -> str:
        """Its name in the configuration, in the audit line and everywhere else."""
        return self.available.name

    def lifespan(self) -> AbstractAsyncContextManager[Any] | None:
        """What the plugin opens while its policy serves, if anything."""
        opened = self.hooks.get("lifespan")
        return opened() if opened is not None else None

    def close(self) -> None:
        """Let the threads of the plugin go."""
        if self.threads is not None:
            self.threads.close()


def discover() -> dict[str, Available]:
    """Every installed plugin by name. Nothing is imported: that is for the configured ones only."""
    found: dict[str, Available] = {}
    for entry in metadata.entry_points(group=GROUP):
        distribution = entry.dist
        name = distribution.name if distribution else "unknown"
        version = distribution.version if distribution else "unknown"
        found.setdefault(entry.name, Available(entry.name, name, version, entry.value, entry.load))
    return found


def build(
    tables: Mapping[str, PluginTable], found: Mapping[str, Available], root: Path
) -> tuple[list[Plugin], list[Problem]]:
    """Build each configured plugin, in the order in which they are asked; all errors at once.

    ``root`` is what relative paths in the settings are relative to.
    """
    plugins: list[Plugin] = []
    problems: list[Problem] = []
    for name, table in sorted(tables.items(), key=lambda item: item[1].priority):
        key: Key = ("plugins", name)
        if (available := found.get(name)) is None:
            guess = did_you_mean(name, found) or "; installed: " + (", ".join(found) or "none")
            problems.append(Problem(key, f"no plugin of this name is installed{guess}"))
            continue
        try:
            plugins.append(_build_one(available, table, root))
        except _Unbuildable as error:
            problems += [Problem((*key, *problem.key), problem.text) for problem in error.problems]
    return plugins, problems


class _Unbuildable(Exception):
    def __init__(self, problems: Iterable[Problem]) -> None:
        super().__init__()
        self.problems = list(problems)


def _build_one(available: Available, table: PluginTable, root: Path) -> Plugin:
    instance = _instance(available, table, root)
    implemented = _implemented(available, instance)
    if not implemented:
        raise _Unbuildable([Problem((), f"{available} implements no hook")])
    threads = None
    if any(_blocks(function) for name, function in implemented.items() if name not in NO_DECISION):
        threads = Threads(available.name, table.threads)
    return Plugin(available, table, instance, implemented, threads)


def _instance(available: Available, table: PluginTable, root: Path) -> object:
    try:
        plugin_class = available.load()
    except BaseException as error:  # noqa: BLE001 - importing runs whatever the package holds
        raise _unbuildable(f"{available} cannot be imported", error) from None
    if not isinstance(plugin_class, type):
        text = f"{available}: its entry point {available.source} names no class"
        raise _Unbuildable([Problem((), text)])
    settings = _settings(plugin_class, table, root)
    try:
        return plugin_class(settings)
    except SettingsError as error:
        raise _Unbuildable(
            Problem(("settings", *problem.key), problem.text) for problem in error.problems
        ) from None
    except BaseException as error:  # noqa: BLE001 - a constructor raises what it likes
        raise _unbuildable(f"{available} cannot be built", error) from None


def _settings(plugin_class: type, table: PluginTable, root: Path) -> BaseModel:
    model = getattr(plugin_class, "Settings", PluginSettings)
    try:
        validated: BaseModel = model.model_validate(table.settings, context={"root": root})
    except pydantic.ValidationError as error:
        raise _Unbuildable(
            Problem(("settings", *problem.key), problem.text) for problem in problems_of(error, model)
        ) from None
    return validated


def _unbuildable(text: str, error: BaseException) -> _Unbuildable:
    return _Unbuildable([Problem((), f"{text}: {blame(error).summary}")])


def _implemented(available: Available, instance: object) -> dict[str, Callable[..., Any]]:
    """The hooks of one plugin, by name; misspelt, wrapping and doubled ones are refused by name."""
    pm = pluggy.PluginManager("pexpolicy")
    pm.add_hookspecs(hooks)
    try:
        pm.register(instance, name=available.name)
        pm.check_pending()
    except (pluggy.PluginValidationError, ValueError, TypeError) as error:
        raise _Unbuildable([Problem((), f"{available}: {_said(error)}")]) from None
    implemented: dict[str, Callable[..., Any]] = {}
    for caller in pm.get_hookcallers(instance) or ():
        mine = caller.get_hookimpls()
        if any(impl.hookwrapper or impl.wrapper for impl in mine):
            text = f"{available}: {caller.name} is a wrapper; a decision has nothing to wrap"
            raise _Unbuildable([Problem((), text)])
        if len(mine) > 1:
            text = f"{available}: {caller.name} is implemented twice"
            raise _Unbuildable([Problem((), text)])
        impl = mine[0]
        takes_request = bool(impl.argnames)
        implemented[caller.name] = impl.function if takes_request else _without_request(impl.function)
    return implemented


def _said(error: Exception) -> str:
    return " ".join(str(error).split())


def _without_request(function: Callable[..., Any]) -> Callable[..., Any]:
    """A hook that does not take the request, in the shape of one that does."""
    if inspect.iscoroutinefunction(function):

        async def asked(*_: Any) -> Any:
            return await function()

        return asked
    return lambda *_: function()


def _blocks(function: Callable[..., Any]) -> bool:
    return not inspect.iscoroutinefunction(function)


def link(plugin: Plugin, hook: str) -> Link | None:
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

    return Link(plugin.name, ask, plugin.table.timeout, plugin.table.on_error)


def advice_of(plugins: Iterable[Plugin]) -> tuple[list[Advice], list[Problem]]:
    """What the plugins want administrators to know of their configuration."""
    advice: list[Advice] = []
    problems: list[Problem] = []
    for plugin in plugins:
        if (asked := plugin.hooks.get("check")) is None:
            continue
        try:
            told = list(asked())
        except BaseException as error:  # noqa: BLE001 - a plugin raises what it likes
            text = f"{plugin.available}: its check failed: {blame(error).summary}"
            problems.append(Problem(("plugins", plugin.name), text))
        else:
            key = ("plugins", plugin.name, "settings")
            advice += [Advice((*key, *item.key), item.text) for item in told]
    return advice, problems
