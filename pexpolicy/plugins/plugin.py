"""Plugins of a policy: instances with validated settings, and the check of their hooks."""

from __future__ import annotations

import inspect
import logging
import re
import sys
import warnings
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import pluggy
import pydantic
from pydantic import BaseModel

from pexpolicy import hooks
from pexpolicy.background.refreshed import Refreshed
from pexpolicy.background.schedule import (
    ScheduledJob,
    collecting_declarations,
    declared_by,
    importing,
)
from pexpolicy.background.sources import SourceLease, digest_of
from pexpolicy.chain.fold import ADJUST
from pexpolicy.chain.hook_tasks import PluginThreadPool
from pexpolicy.config.files import tracking_files
from pexpolicy.config.loader import Stage, silent
from pexpolicy.config.plugin_settings import (
    PluginSettings,
    SettingsError,
    key_of,
    lax_models,
    read_settings,
)
from pexpolicy.config.problems import Key, PluginBuildError, Problem, problems_of
from pexpolicy.config.schema.plugins import PluginTable, SourceTable
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.decision_fields import FieldsError
from pexpolicy.errors import describe_error
from pexpolicy.hooks import HOOKS, IMPL_MARK, SPEC_MARK, Plugin
from pexpolicy.models.context import hook_context
from pexpolicy.models.decision import Reject
from pexpolicy.plugins.discovery import PluginSource, select
from pexpolicy.text import brief, did_you_mean

DESCRIBING = (
    "changes_since",
    "config_warnings",
    "coverage_items",
    "routes",
    "static_decisions",
    "tracked_files",
)
"""Hooks that describe a plugin; they are called while the policy is built, or for a report."""
_METHOD = "pexpolicy_method"
"""Attribute of a hook that only passes its arguments on: the method of the plugin."""
SIMILAR = 0.87
"""Similarity from which on a public method of a ``Plugin`` is taken for a misspelt hook."""
SIMILAR_ADJUSTER = 0.66
"""The same for one whose name begins with ``adjust_``, such as ``adjust_service``."""
_HARMLESS = frozenset(
    (
        *("None", "Optional", "Union", "Awaitable", "Service"),
        *(kind.__name__ for endpoint in ENDPOINTS.values() for kind in endpoint.decisions),
    )
) - {"Reject"}
"""Words of a return annotation that is no reject."""


def collect_hooks(
    available: PluginSource, instance: object
) -> tuple[dict[str, Callable[..., Any]], tuple[str, ...]]:
    """Return the hooks of one plugin by name, and the warnings about deprecated ones.

    Raises ``PluginBuildError`` for a method that would never be called, or not as it expects.
    """
    for name in dir(type(instance)):
        if problem := _problem(type(instance), name):
            raise PluginBuildError.because(f"{available}: {name} {problem}")
    pm = pluggy.PluginManager("pexpolicy")
    pm.add_hookspecs(Plugin)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pm.register(instance, name=available.name)
            pm.check_pending()
            callers = pm.get_hookcallers(instance) or ()
    except (pluggy.PluginValidationError, ValueError, TypeError) as error:
        raise PluginBuildError.because(f"{available}: {_one_line(error)}") from None
    for item in caught:
        # Again outside of the recording, for ``pytest -W error::DeprecationWarning``.
        warnings.warn_explicit(item.message, item.category, item.filename, item.lineno)
    # Other hooks are optional, and of a later version.
    impls = {caller.name: caller.get_hookimpls() for caller in callers if caller.name in HOOKS}
    if twice := [name for name, mine in impls.items() if len(mine) > 1]:
        raise PluginBuildError.because(f"{available}: {twice[0]} is implemented twice")
    if "lifespan" not in impls and (
        opens := [name for name in ("__aenter__", "__enter__") if hasattr(instance, name)]
    ):
        text = f"{available}: {opens[0]} is never called: write lifespan, with @asynccontextmanager"
        raise PluginBuildError.because(text)
    if {"on_decision", "on_decisions"} <= impls.keys():
        text = f"{available}: on_decision and on_decisions observe the same: implement one of them"
        raise PluginBuildError.because(text)
    return {name: _with_all_arguments(name, mine[0]) for name, mine in impls.items()}, tuple(
        f"{available}: {_one_line(item.message)} (deprecated)" for item in caught
    )


def _problem(plugin_class: type, attribute: str) -> str:
    """Return what is wrong with a method, or an empty text: it is never called, or misfits."""
    static = inspect.getattr_static(plugin_class, attribute)
    function: Any = getattr(plugin_class, attribute, None)
    if hasattr(function, SPEC_MARK):
        others = (base for base in plugin_class.__mro__ if not issubclass(base, Plugin))
        hidden = next((base.__name__ for base in others if attribute in vars(base)), "")
        return hidden and f"of {hidden} is never called: name {hidden} before Plugin as a base"
    options = getattr(function, IMPL_MARK, None)
    if options is None and attribute not in HOOKS:
        return _unmarked_problem(plugin_class, attribute)
    if options is None or not (
        inspect.isfunction(static) or isinstance(static, classmethod | staticmethod)
    ):
        return "is never called: write a method of the class, with @hookimpl directly above def"
    hook = options.get("specname") or attribute
    if hook not in HOOKS:
        # An optional one may be of a later version.
        return "" if options.get("optionalhook") else f"is not a hook{did_you_mean(hook, HOOKS)}"
    for option in ("tryfirst", "trylast", "wrapper", "hookwrapper"):
        if options.get(option):
            return f"has {option}=True, which has no effect: remove it; priority orders plugins"
    return _misfit(hook, function, is_method=inspect.isfunction(static))


def _unmarked_problem(plugin_class: type, name: str) -> str:
    """Return which hook is meant by a method that is none; an empty text for one of its own."""
    is_own = name.startswith("_") or not issubclass(plugin_class, Plugin)
    if is_own or not inspect.isroutine(getattr(plugin_class, name, None)):
        return ""
    cutoff = SIMILAR_ADJUSTER if name.startswith("adjust_") else SIMILAR
    if not (close := get_close_matches(name, HOOKS, n=1, cutoff=cutoff)):
        return ""
    own = "begin the name of a method of your own with _"
    return f"is not a hook, and is never called; did you mean {close[0]!r}? Otherwise {own}"


def _misfit(hook: str, function: Callable[..., Any], *, is_method: bool) -> str:
    """Return how to write a hook whose arguments or kind of function are wrong."""
    expected = list(inspect.signature(HOOKS[hook]).parameters)
    taken = list(inspect.signature(function).parameters.values())
    takes_self = not is_method or (bool(taken) and taken[0].name == "self")
    if not takes_self or not all(
        parameter.name in expected[1:] and parameter.kind is not parameter.KEYWORD_ONLY
        for parameter in taken[is_method:]
    ):
        form = f"{hook}({', '.join(expected)})"
        return f"has other arguments than the hook: write {form}, or leave out the last ones"
    generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    inner = inspect.unwrap(function)
    if hook == "lifespan":
        if (
            generator
            or inspect.iscoroutinefunction(inner)
            or inspect.isgeneratorfunction(inner)
            or inspect.iscoroutinefunction(function)
        ):
            return "must be an async def with one yield, and @asynccontextmanager above it"
    elif hook in DESCRIBING:
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            return "must be a plain def, as it is called while the policy is built"
    elif generator:
        return "must return its answer, and has a yield"
    return ""


def _one_line(error: Exception | Warning | str) -> str:
    return " ".join(str(error).split())


def _with_all_arguments(name: str, impl: pluggy.HookImpl) -> Callable[..., Any]:
    """Wrap a hook that leaves out arguments, or has them in another order, into one of all."""
    function, taken = impl.function, tuple(impl.argnames)
    expected = tuple(inspect.signature(HOOKS[name]).parameters)[1:]
    if taken == expected and taken:
        return function
    places = [expected.index(argument) for argument in taken]

    # Not ``async def``, as awaiting one more coroutine is not free.
    def pass_taken(*given: Any) -> Any:
        return function(*[given[place] for place in places])

    setattr(pass_taken, _METHOD, function)
    return pass_taken


def method_of(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method of the plugin that a hook passes its arguments on to."""
    method: Callable[..., Any] = getattr(hook, _METHOD, hook)
    return method


def can_reject(
    available: PluginSource, instance: object, hooks: Mapping[str, Callable[..., Any]]
) -> bool:
    """Return the plugin's own ``can_reject``; without one, guess, for a warning.

    The guess is true if the module of the class imports ``Reject``, and the annotation of a hook
    that may reject does not name other decisions only. Raises ``PluginBuildError``.
    """
    try:
        declared = getattr(instance, "can_reject", None)
    except BaseException as error:
        text = f"{available}: its can_reject failed: {describe_error(error).summary}"
        raise PluginBuildError.because(text) from error
    if isinstance(declared, bool):
        return declared
    if declared is not None:
        text = f"{available}: its can_reject is {brief(declared)}: write True or False, no method"
        raise PluginBuildError.because(text)
    module = sys.modules.get(type(instance).__module__)
    if all(value is not Reject for value in vars(module or object).values()):
        return False
    return any(
        endpoint.can_reject and _answers_reject(hook)
        for name, hook in hooks.items()
        if (endpoint := ENDPOINTS.get(name.removeprefix(ADJUST))) is not None
    )


def _answers_reject(hook: Callable[..., Any]) -> bool:
    annotation = getattr(method_of(hook), "__annotations__", {}).get("return", "object")
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return not _HARMLESS.issuperset(re.findall(r"(?:\w+\.)*(\w+)", text))


_VERSION = "__pexpolicy_version__"
"""Attribute of a module: the version of its distribution when it was imported."""


def running(available: PluginSource) -> PluginSource:
    """Return a plugin with the version of its code that runs.

    An upgrade of its package does not change that of a module that is imported already.
    """
    module = sys.modules.get(available.source.partition(":")[0])
    if module is None:
        return available
    return replace(available, version=vars(module).setdefault(_VERSION, available.version))


def instantiate(available: PluginSource, table: PluginTable, context: Mapping[str, Any]) -> object:
    """Import a plugin class and build it with its settings. Raises ``PluginBuildError``.

    ``context`` is passed to the validators of the settings.
    """
    try:
        with importing(available.name):
            plugin_class = available.load()
        running(available)
    except BaseException as error:
        raise _build_error(f"{available} cannot be imported", error) from error
    if not isinstance(plugin_class, type):
        text = f"{available}: its entry point {available.source} is not a class"
        raise PluginBuildError.because(text)
    wanted = getattr(plugin_class, "pexpolicy_api", hooks.HOOK_API)
    if not isinstance(wanted, int) or wanted > hooks.HOOK_API:
        text = (
            f"{available} asks for hook API {brief(wanted)}, and this pexpolicy has "
            f"{hooks.HOOK_API}: upgrade pexpolicy, or install an older version of the plugin"
        )
        raise PluginBuildError.because(text)
    known = {**context, "timeout": table.timeout, "extras": table.extras}
    try:
        settings = _validated(available, plugin_class, table.settings, known)
        return _construct(plugin_class, settings, f"{available} cannot be built")
    except _SettingsProblems as error:
        raise PluginBuildError(
            Problem(("settings", *problem.key), problem.text) for problem in error.problems
        ) from None


def driver(driver_class: type, table: SourceTable, context: Mapping[str, Any]) -> object:
    """Build the driver of a source with its settings; raises ``PluginBuildError``."""
    settings = _validated(table.driver, driver_class, table.settings, context)
    return _construct(driver_class, settings, f"{table.driver} cannot be built")


class _SettingsProblems(PluginBuildError):
    """Problems with keys of the settings."""


def _construct(owner: type, settings: BaseModel, failure: str) -> object:
    """Call the constructor with the settings, or without if the class has neither."""
    try:
        own = {name: getattr(owner, name) for name in ("__init__", "__new__")}
        defaults = {"__init__": object.__init__, "__new__": object.__new__}
        if "Settings" not in vars(owner) and own == defaults:
            return owner()
        if not _takes_settings(owner, settings):
            text = f"{owner.__name__} does not take its settings: give it __init__(self, settings)"
            raise PluginBuildError.because(text)  # noqa: TRY301 - it is completed below
        return owner(settings)
    except SettingsError as error:
        raise _SettingsProblems(error.problems) from None
    except FieldsError as error:
        if (key := key_of(settings, error.source)) is None:
            raise _build_error(failure, error) from error
        raise _SettingsProblems(
            Problem((*key, *issue.key), issue.text) for issue in error.issues
        ) from None
    except BaseException as error:
        raise _build_error(failure, error) from error


def _takes_settings(owner: type, settings: BaseModel) -> bool:
    """Return false for a constructor without them, or an ``async def``."""
    if inspect.iscoroutinefunction(getattr(owner, "__init__", None)):
        return False
    try:
        inspect.signature(owner).bind(settings)
    except ValueError:
        return True  # some callables have no signature and work all the same
    except TypeError:
        return False
    return True


def _validated(
    name: object, owner: type, values: Mapping[str, Any], context: Mapping[str, Any]
) -> BaseModel:
    """Return the settings of a plugin or driver class; raises ``PluginBuildError``."""
    model = getattr(owner, "Settings", PluginSettings)
    try:
        is_model = isinstance(model, type) and issubclass(model, PluginSettings)
        if lax := lax_models(model) if is_model else [owner.__name__]:
            what = f"{', '.join(lax)} in the Settings" if is_model else "the Settings"
            text = f"{what} of {owner.__name__} do not inherit PluginSettings"
            raise PluginBuildError.because(f"{name}: {text}")  # noqa: TRY301 - as from a model
        return cast("BaseModel", read_settings(model, values, context))
    except PluginBuildError:
        raise
    except pydantic.ValidationError as error:
        problems = problems_of(error, model)
    except BaseException as error:
        raise _build_error(f"{name}: its Settings cannot be read", error) from error
    if model is PluginSettings:
        text = f"unknown key: the class {owner.__name__} has no Settings"
        problems = [Problem(problem.key, text) for problem in problems]
    raise _SettingsProblems(problems)


def _build_error(text: str, error: BaseException) -> PluginBuildError:
    if isinstance(error, PluginBuildError):
        return PluginBuildError.because(f"{text}: {error}")
    # Shown by serve --debug and explain --traceback.
    logging.getLogger(__name__).debug("plugin failed", exc_info=error)
    summary = describe_error(error).summary
    hint = "; start tasks in lifespan" if "no running event loop" in summary else ""
    return PluginBuildError.because(f"{text}: {summary}{hint}")


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
