"""Plugins of a policy, and how they are built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pexpolicy.background.declarations import collecting_declarations, declared_by
from pexpolicy.background.refreshed import Refreshed
from pexpolicy.background.schedule import ScheduledJob
from pexpolicy.background.sources import SourceLease, digest_of
from pexpolicy.chain.hook_tasks import PluginThreadPool
from pexpolicy.config.files import tracking_files
from pexpolicy.config.loader import Stage, silent
from pexpolicy.config.problems import Key, PluginBuildError, Problem
from pexpolicy.config.schema.plugins import PluginTable
from pexpolicy.models.context import hook_context
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
    files: tuple[Path, ...] = ()
    """The files that it tracked while it was built; those of its sources are theirs."""

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
    sources: SourceLease | None = None,
    isolate: PluginFactory | None = None,
    stage: Stage = silent,
) -> tuple[list[BuiltPlugin], list[Problem]]:
    """Build the configured plugins in the order in which they are asked; return all problems too.

    Relative paths in the settings are relative to ``root``; ``sources`` are those that they may
    name. ``isolate`` builds plugins with ``isolation = "process"``.
    """
    plugins: list[BuiltPlugin] = []
    problems: list[Problem] = []
    for name, table in sorted(tables.items(), key=lambda item: item[1].priority):
        key: Key = ("plugins", name)
        stage(f"building the plugin {name}")
        try:
            available = select(name, tables, found)
            with hook_context(name, "__init__"):
                if isolate is not None and table.isolation == "process":
                    plugins.append(isolate(available, table, root))
                else:
                    context = {"root": root, "sources": sources}
                    plugins.append(_build_one(available, table, context))
        except PluginBuildError as error:
            cause = error.__cause__
            problems += [Problem((*key, *p.key), p.text, cause) for p in error.problems]
    return plugins, problems


def _build_one(
    available: PluginSource, table: PluginTable, context: Mapping[str, Any]
) -> BuiltPlugin:
    loaded = running(available)
    outdated = []
    if loaded.version != available.version:
        text = f"{available.origin} is installed, and {loaded.version} runs: restart the server"
        outdated.append(text)
    try:
        with collecting_declarations() as declared, tracking_files() as files:
            instance = instantiate(loaded, table, context)
        of_sources = set(getattr(context["sources"], "files", ()))
        implemented, deprecated = collect_hooks(loaded, instance)
        if not implemented:
            text = f"{loaded} implements no hook: override a method of Plugin, or use @hookimpl"
            raise PluginBuildError.because(text)
        rejects = can_reject(loaded, instance, implemented)
    except PluginBuildError as error:
        error.problems += [Problem((), text) for text in outdated]
        raise
    has_threads = any(
        blocks(hook) and name != "lifespan" and name not in DESCRIBING
        for name, hook in implemented.items()
    )
    return BuiltPlugin(
        loaded,
        without_settings(table),
        instance,
        implemented,
        implemented.keys(),
        rejects,
        PluginThreadPool(loaded.name, table.threads) if has_threads else None,
        setting_digests(table),
        (*deprecated, *outdated),
        refreshed=declared_by(instance, declared, Refreshed),
        jobs=declared_by(instance, declared, ScheduledJob),
        files=tuple(file for file in dict.fromkeys(files) if file not in of_sources),
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
