"""Plugins of a policy: building, ordering, and binding their hooks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from pexpolicy.background.declarations import collecting_declarations, declared_by
from pexpolicy.background.refreshed import Refreshed
from pexpolicy.background.schedule import ScheduledJob
from pexpolicy.background.sources import digest_of
from pexpolicy.chain.hook_tasks import PluginThreadPool
from pexpolicy.config.problems import ConfigWarning, Key, PluginBuildError, Problem
from pexpolicy.config.progress import Stage, silent
from pexpolicy.config.schema.plugins import PluginTable
from pexpolicy.errors import describe_error
from pexpolicy.models.decision import Decision
from pexpolicy.models.hook_context import hook_context
from pexpolicy.plugins.discovery import PluginSource, select
from pexpolicy.plugins.hook_check import DESCRIBING, can_reject, collect_hooks, method_of
from pexpolicy.plugins.instantiate import instantiate, running
from pexpolicy.text import brief


@dataclass(frozen=True, slots=True)
class BuiltPlugin:
    """A built plugin: its source, its table in the configuration, and its hooks by name."""

    available: PluginSource
    table: PluginTable
    instance: object
    hooks: Mapping[str, Callable[..., Any]]
    implemented: Collection[str]
    """The names of the hooks that the plugin has; a process adds some to ``hooks``."""
    can_reject: bool
    """The plugin's own ``can_reject``; without one, a guess."""
    threads: PluginThreadPool | None = None
    setting_digests: Mapping[str, bytes] = field(default_factory=dict)
    """A hash of each of its settings, to find out which have changed."""
    deprecated: tuple[str, ...] = ()
    """Warnings about deprecated hooks, and about another version that is installed."""
    end_workers: Callable[[], None] | None = None
    """Ends the plugin's worker processes, with ``isolation = "process"``."""
    refreshed: tuple[Refreshed[Any], ...] = ()
    """The data that the server refreshes for it."""
    jobs: tuple[ScheduledJob, ...] = ()
    """The jobs that the server runs for it."""

    @property
    def name(self) -> str:
        """Return the name used in the configuration, the audit line and everywhere else."""
        return self.available.name

    @property
    def is_isolated(self) -> bool:
        """Return whether it runs in worker processes of its own."""
        return self.end_workers is not None

    @property
    def module(self) -> str:
        """Return the name of the module that defines the plugin's class."""
        return type(self.instance).__module__

    def lifespan(self) -> AbstractAsyncContextManager[Any] | None:
        """Return the context manager to enter while the policy serves, if any.

        A plugin that has nothing to open may return ``nullcontext()``, which costs no task.
        Raises ``PluginBuildError`` where the hook returns something else.
        """
        function = self.hooks.get("lifespan")
        if function is None:
            return None
        returned = function()
        if isinstance(returned, nullcontext):
            return None
        if isinstance(returned, AbstractAsyncContextManager):
            return returned
        if inspect.iscoroutine(returned):
            returned.close()
        text = (
            f"{self.available}: its lifespan returned {brief(returned)}, and not an asynchronous "
            "context manager: write async def, and @asynccontextmanager above it"
        )
        raise PluginBuildError.because(text)

    def close(self) -> None:
        """Release the plugin's threads and processes."""
        if self.threads is not None:
            self.threads.close()
        if self.end_workers is not None:
            self.end_workers()


PluginFactory = Callable[[PluginSource, PluginTable, Path], BuiltPlugin]
"""Builds a plugin; relative paths in its settings are relative to the path."""


def build(
    tables: Mapping[str, PluginTable],
    found: Mapping[str, PluginSource],
    root: Path,
    *,
    isolate: PluginFactory | None = None,
    stage: Stage = silent,
) -> tuple[list[BuiltPlugin], list[Problem]]:
    """Build the configured plugins in the order in which they are asked; return all problems too.

    Relative paths in the settings are relative to ``root``. ``isolate`` builds those with
    ``isolation = "process"``.
    """
    plugins: list[BuiltPlugin] = []
    problems: list[Problem] = []
    for name, table in sorted(tables.items(), key=lambda item: item[1].priority):
        key: Key = ("plugins", name)
        stage(f"building the plugin {name}")
        try:
            available = select(name, tables, found)
            make = isolate if isolate is not None and table.isolation == "process" else _build_one
            with hook_context(name, "__init__"):
                plugins.append(make(available, table, root))
        except PluginBuildError as error:
            cause = error.__cause__
            problems += [Problem((*key, *p.key), p.text, cause) for p in error.problems]
    return plugins, problems


def _build_one(available: PluginSource, table: PluginTable, root: Path) -> BuiltPlugin:
    available, outdated = running(available)
    try:
        with collecting_declarations() as declared:
            instance = instantiate(available, table, root)
        implemented, deprecated = collect_hooks(available, instance)
    except PluginBuildError as error:
        error.problems += [Problem((), outdated)] if outdated else []
        raise
    if not implemented:
        text = f"{available} implements no hook: write a method of its class, with @hookimpl above"
        raise PluginBuildError.because(text)
    threads = None
    if any(
        blocks(implemented[name])
        for name in implemented
        if name != "lifespan" and name not in DESCRIBING
    ):
        threads = PluginThreadPool(available.name, table.threads)
    return BuiltPlugin(
        available,
        without_settings(table),
        instance,
        implemented,
        implemented.keys(),
        can_reject(instance, implemented),
        threads,
        setting_digests(table),
        (*deprecated, outdated) if outdated else deprecated,
        refreshed=declared_by(instance, declared, Refreshed),
        jobs=declared_by(instance, declared, ScheduledJob),
    )


def without_settings(table: PluginTable) -> PluginTable:
    """Drop the raw settings: a table of 100,000 rooms is not needed after building."""
    return table.model_copy(update={"settings": {}})


def setting_digests(table: PluginTable) -> dict[str, bytes]:
    """Return a hash of each setting."""
    return {name: digest_of(value) for name, value in table.settings.items()}


def blocks(function: Callable[..., Any]) -> bool:
    """Return true for a hook that runs in a thread."""
    return not inspect.iscoroutinefunction(method_of(function))


def collect(
    plugin: BuiltPlugin, hook: str, usable: Callable[[Any], bool], what: str, *arguments: object
) -> tuple[list[Any], list[Problem]]:
    """Call a hook that describes the plugin; return its items, and the problem if there is one.

    ``usable`` checks one item, ``what`` names what the hook has to return.
    """
    function = plugin.hooks.get(hook)
    if function is None:
        return [], []
    try:
        with hook_context(plugin.name, hook):
            returned = function(*arguments)
        if isinstance(returned, str | bytes | Mapping) or not isinstance(returned, Iterable):
            text = f"its {hook} must return an iterable of {what}, and returned {brief(returned)}"
        else:
            with hook_context(plugin.name, hook):
                items = list(returned)
            wrong = [item for item in items if not usable(item)]
            if not wrong:
                return items, []
            text = f"its {hook} must return {what}, and one item is {brief(wrong[0])}"
    except BaseException as error:  # noqa: BLE001 - a plugin raises what it likes
        text = f"its {hook} failed: {describe_error(error).summary}"
    return [], [Problem(("plugins", plugin.name), f"{plugin.available}: {text}")]


def _is_key(key: object) -> bool:
    return isinstance(key, tuple) and all(isinstance(part, str | int) for part in key)


def _is_path(item: object) -> bool:
    return isinstance(item, str | PurePath)


def _is_warning(item: object) -> bool:
    return isinstance(item, ConfigWarning) and _is_key(item.key)


def _is_keyed_decision(item: object) -> bool:
    return (
        isinstance(item, tuple)
        and len(item) == 2  # noqa: PLR2004 - key and decision
        and _is_key(item[0])
        and isinstance(item[1], Decision)
    )


def static_decisions(
    plugins: Iterable[BuiltPlugin],
) -> tuple[dict[str, list[tuple[Key, Decision]]], list[Problem]]:
    """Return the decisions that never change, by plugin, and the calls that failed."""
    decisions: dict[str, list[tuple[Key, Decision]]] = {}
    problems: list[Problem] = []
    what = "pairs of a key and a decision, such as (('rooms', 'a'), Conference(...))"
    for plugin in plugins:
        decisions[plugin.name], found = collect(
            plugin, "static_decisions", _is_keyed_decision, what
        )
        problems += found
    return decisions, problems


_WARNING = "ConfigWarning(key, text), with a tuple as the key, such as ('rooms', 'a')"


def plugin_warnings(plugins: Iterable[BuiltPlugin]) -> tuple[list[ConfigWarning], list[Problem]]:
    """Return the plugins' warnings about their configuration, and the calls that failed."""
    warnings: list[ConfigWarning] = []
    problems: list[Problem] = []
    for plugin in plugins:
        warnings += [ConfigWarning(("plugins", plugin.name), text) for text in plugin.deprecated]
        found, problem = collect(plugin, "config_warnings", _is_warning, _WARNING)
        problems += problem
        key = ("plugins", plugin.name, "settings")
        warnings += [ConfigWarning((*key, *item.key), item.text) for item in found]
    return warnings, problems


def tracked_files(plugins: Iterable[BuiltPlugin], root: Path) -> tuple[list[Path], list[Problem]]:
    """Return the files that the plugins were built from, and the calls that failed.

    Relative paths are relative to ``root``, unless they begin with it, as those of settings do.
    """
    files: list[Path] = []
    problems: list[Problem] = []
    for plugin in plugins:
        found, problem = collect(plugin, "tracked_files", _is_path, "paths")
        problems += problem
        files += plugin.available.files()
        files += [path if path.is_relative_to(root) else root / path for path in map(Path, found)]
    return files, problems
