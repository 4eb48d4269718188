"""Checking, building and ordering plugins; the only user of pluggy's PluginManager."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy
import pydantic
from pydantic import BaseModel

from pexpolicy import hooks
from pexpolicy.aftermath import Observer
from pexpolicy.breaker import Breaker
from pexpolicy.config import PluginSettings, SettingsError
from pexpolicy.contract.refusal import did_you_mean
from pexpolicy.decisions import Decision, Reject
from pexpolicy.discovery import MARK, Available, misnamed
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.faults import blame
from pexpolicy.link import Link
from pexpolicy.problems import Advice, Key, Problem, problems_of
from pexpolicy.progress import Stage, silent
from pexpolicy.tables import PluginTable
from pexpolicy.threads import Threads
from pexpolicy.unbuildable import Unbuildable

if TYPE_CHECKING:
    from pexpolicy.isolation.isolated import Isolated

SPEC_MARK = "pexpolicy_spec"
"""The attribute that pluggy's marker leaves on a specification."""
NO_DECISION = ("lifespan", "check", "prepared", "decided", "status", "watched")


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin that was built: what it was made of, and its hooks by name."""

    available: Available
    table: PluginTable
    instance: object
    hooks: Mapping[str, Callable[..., Any]]
    threads: Threads | None
    deprecated: tuple[str, ...] = ()
    """What to say of hooks that will go."""
    isolated: Isolated | None = None
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
    found: Mapping[str, Available],
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
            guess = misnamed(name, directories) or did_you_mean(name, found)
            guess = guess or "; installed: " + (", ".join(found) or "none")
            problems.append(Problem(key, f"no plugin of this name is installed{guess}"))
            continue
        stage(f"building the plugin {name}")
        try:
            plugins.append(_build_one(available, table, root))
        except Unbuildable as error:
            problems += [Problem((*key, *problem.key), problem.text) for problem in error.problems]
    return plugins, problems


def _build_one(available: Available, table: PluginTable, root: Path) -> Plugin:
    if table.isolation == "process":
        return _build_apart(available, table, root)
    instance = _instance(available, table, root)
    deprecated: list[str] = []
    implemented = _implemented(available, instance, deprecated)
    if not implemented:
        raise Unbuildable([Problem((), f"{available} implements no hook")])
    threads = None
    if any(
        _blocks(implemented[name])
        for name in implemented
        if name not in ("lifespan", "check", "prepared", "watched")
    ):
        threads = Threads(available.name, table.threads)
    return Plugin(
        available, _without_settings(table), instance, implemented, threads, tuple(deprecated)
    )


def _build_apart(available: Available, table: PluginTable, root: Path) -> Plugin:
    """A plugin in processes of its own; they build it, and its hooks ask them."""
    from pexpolicy.isolation.isolated import Isolated  # noqa: PLC0415 - for those who ask for it only

    isolated = Isolated.start(available, table, root)
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


def _instance(available: Available, table: PluginTable, root: Path) -> object:
    try:
        plugin_class = available.load()
    except BaseException as error:  # noqa: BLE001 - importing runs whatever the package holds
        raise _unbuildable(f"{available} cannot be imported", error) from None
    if not isinstance(plugin_class, type):
        text = f"{available}: its entry point {available.source} names no class"
        raise Unbuildable([Problem((), text)])
    wanted = getattr(plugin_class, "pexpolicy_api", hooks.HOOK_API)
    if not isinstance(wanted, int) or wanted > hooks.HOOK_API:
        text = (
            f"{available} asks for hook API {wanted}, and this pexpolicy has {hooks.HOOK_API}: "
            "upgrade pexpolicy, or install an older version of the plugin"
        )
        raise Unbuildable.because(text)
    settings = _settings(plugin_class, table, root)
    try:
        if "Settings" not in vars(plugin_class) and _takes_nothing(plugin_class):
            return plugin_class()
        _refuse_without_settings(plugin_class, settings)
        return plugin_class(settings)
    except SettingsError as error:
        raise Unbuildable(
            Problem(("settings", *problem.key), problem.text) for problem in error.problems
        ) from None
    except BaseException as error:  # noqa: BLE001 - a constructor raises what it likes
        raise _unbuildable(f"{available} cannot be built", error) from None


def _takes_nothing(plugin_class: type) -> bool:
    """True for a class with neither a constructor of its own nor an inherited one."""
    own = {name: getattr(plugin_class, name) for name in ("__init__", "__new__")}
    return own == {"__init__": object.__init__, "__new__": object.__new__}


def _refuse_without_settings(plugin_class: type, settings: BaseModel) -> None:
    """Say of a constructor that cannot take the settings what to write, before Python does."""
    try:
        signature = inspect.signature(plugin_class)
    except (ValueError, TypeError):
        return  # it has none that can be told, and may be called all the same
    try:
        signature.bind(settings)
    except TypeError:
        name = plugin_class.__name__
        text = f"{name} does not take its settings: give it __init__(self, settings)"
        raise Unbuildable.because(text) from None


def _settings(plugin_class: type, table: PluginTable, root: Path) -> BaseModel:
    model = getattr(plugin_class, "Settings", PluginSettings)
    try:
        known = {"root": root, "timeout": table.timeout}
        validated: BaseModel = model.model_validate(table.settings, context=known)
    except pydantic.ValidationError as error:
        raise Unbuildable(
            Problem(("settings", *problem.key), problem.text)
            for problem in problems_of(error, model)
        ) from None
    return validated


def _unbuildable(text: str, error: BaseException) -> Unbuildable:
    if isinstance(error, Unbuildable):
        return Unbuildable.because(f"{text}: {error}")
    return Unbuildable.because(f"{text}: {blame(error).summary}")


def _implemented(
    available: Available, instance: object, deprecated: list[str]
) -> dict[str, Callable[..., Any]]:
    """The hooks of one plugin, by name; misspelt, wrapping and doubled ones are refused by name."""
    pm = pluggy.PluginManager("pexpolicy")
    pm.add_hookspecs(hooks)
    _refuse_misspelt(available, instance)
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            pm.register(instance, name=available.name)
            pm.check_pending()
    except (pluggy.PluginValidationError, ValueError, TypeError) as error:
        raise Unbuildable([Problem((), f"{available}: {_said(error)}")]) from None
    deprecated += [f"{available}: {_said(item.message)}" for item in told]
    implemented: dict[str, Callable[..., Any]] = {}
    for caller in pm.get_hookcallers(instance) or ():
        mine = caller.get_hookimpls()
        if any(impl.hookwrapper or impl.wrapper for impl in mine):
            text = f"{available}: {caller.name} is a wrapper; a decision has nothing to wrap"
            raise Unbuildable([Problem((), text)])
        if len(mine) > 1:
            text = f"{available}: {caller.name} is implemented twice"
            raise Unbuildable([Problem((), text)])
        impl = mine[0]
        takes_request = bool(impl.argnames)
        implemented[caller.name] = (
            impl.function if takes_request else _without_request(impl.function)
        )
    return implemented


def _refuse_misspelt(available: Available, instance: object) -> None:
    """Say of a hook or an argument that there is none of what there is, before pluggy does."""
    for name in dir(type(instance)):
        function = getattr(type(instance), name, None)
        if not hasattr(function, MARK) or not callable(function):
            continue
        method = inspect.isfunction(inspect.getattr_static(type(instance), name))
        name = getattr(function, MARK).get("specname") or name  # noqa: PLW2901 - the name that counts
        spec: Any = getattr(hooks, name, None)
        if not hasattr(spec, SPEC_MARK):
            known = [n for n in vars(hooks) if hasattr(getattr(hooks, n), SPEC_MARK)]
            text = f"{available}: there is no hook {name!r}{did_you_mean(name, known)}"
            raise Unbuildable.because(text)
        given = list(inspect.signature(spec).parameters)
        taken = list(inspect.signature(function).parameters)
        if method and taken[:1] != ["self"]:
            said = f"must take self first: write {name}({', '.join(['self', *given])})"
            raise Unbuildable.because(f"{available}: {name} {said}")
        taken = taken[1:] if method else taken
        if wrong := [p for p in taken if p not in given]:
            what = f"takes {given[0]!r}" if given else "takes nothing"
            text = f"{available}: {name} {what}, and nothing called {wrong[0]!r}"
            raise Unbuildable.because(text)


def _said(error: Exception | Warning | str) -> str:
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

    table = plugin.table
    breaker = None
    if table.breaker is not None:
        breaker = Breaker(table.breaker.failures, table.breaker.window, table.breaker.pause)
    return Link(plugin.name, ask, table.timeout, table.on_error, breaker, (plugin.name, hook))


def observer(plugin: Plugin) -> Observer | None:
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


def advice_of(plugins: Iterable[Plugin]) -> tuple[list[Advice], list[Problem]]:
    """What the plugins want administrators to know of their configuration."""
    advice: list[Advice] = []
    problems: list[Problem] = []
    for plugin in plugins:
        advice += [Advice(("plugins", plugin.name), text) for text in plugin.deprecated]
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


def watched_by(plugins: Iterable[Plugin], root: Path) -> tuple[list[Path], list[Problem]]:
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
            text = f"{plugin.available}: its watched failed: {blame(error).summary}"
            problems.append(Problem(("plugins", plugin.name), text))
    return files, problems
