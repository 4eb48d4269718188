"""Plugins of a policy: instances with validated settings, and the check of their hooks."""

from __future__ import annotations

import inspect
import logging
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import pydantic

from pexpolicy import hooks
from pexpolicy.background.refreshed import Refreshed, own_paths
from pexpolicy.background.schedule import (
    IMPORT,
    ScheduledJob,
    collecting_declarations,
    declared_by,
)
from pexpolicy.background.shared import SharedItem
from pexpolicy.background.sources import SharedResources, SourceLease, digest_of
from pexpolicy.chain.chain import ADJUST, RESTRICT
from pexpolicy.chain.hook_tasks import PluginThreadPool
from pexpolicy.config.files import NamedPath, tracking
from pexpolicy.config.loader import load
from pexpolicy.config.plugin_settings import PluginSettings, key_of, lax_models, read_settings
from pexpolicy.config.problems import Key, PluginBuildError, Problem, SettingsError, problems_of
from pexpolicy.config.schema.plugins import PluginTable
from pexpolicy.config.settings import ConfigError
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.decision_fields import FieldsError
from pexpolicy.errors import describe_error
from pexpolicy.hooks import HOOKS, IMPL_MARK, SPEC_MARK, Plugin
from pexpolicy.models.context import hook_context
from pexpolicy.models.decision import Reject
from pexpolicy.plugins.discovery import PluginSource, discover, select
from pexpolicy.text import brief, did_you_mean, is_typo

Hook = Callable[..., Any]
Context = Mapping[str, Any]
"""What is passed to the validators of settings."""
_METHOD = "pexpolicy_method"
"""Attribute of a hook that only passes its arguments on: the method of the plugin."""


def collect_hooks(available: PluginSource, instance: object) -> dict[str, Hook]:
    """Return the hooks of one plugin by name.

    Raises ``PluginBuildError`` for a method that would never be called, or not as it expects.
    """
    found: dict[str, Hook] = {}
    plugin_class = type(instance)
    attributes: dict[str, object] = getattr(instance, "__dict__", {})
    # A plugin may make hooks of its settings when it is built.
    own = {name: value for name, value in attributes.items() if hasattr(value, IMPL_MARK)}

    def refuse(problem: str) -> NoReturn:
        raise PluginBuildError(f"{available}: {problem}")

    for name in dict.fromkeys((*dir(plugin_class), *own)):
        if name not in own and (text := _problem(plugin_class, name)):
            refuse(f"{name} {text}")
        options = getattr(own.get(name) or getattr(plugin_class, name, None), IMPL_MARK, None)
        hook = (options or {}).get("specname") or name
        if options is None or hook not in HOOKS:
            continue  # an optional hook may be of a later version
        if hook in found:
            refuse(f"{hook} is implemented twice")
        found[hook] = _with_all_arguments(hook, getattr(instance, name))
    opens = [name for name in ("__aenter__", "__enter__") if hasattr(instance, name)]
    if opens and "lifespan" not in found:
        refuse(f"{opens[0]} is never called: write lifespan")
    for one in ("on_decision", "on_event"):
        if {one, f"{one}s"} <= found.keys():
            refuse(f"{one} and {one}s observe the same: implement one of them")
    return found


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
        return _misspelt(plugin_class, attribute)
    is_method = inspect.isfunction(static)
    if options is None or not (is_method or isinstance(static, classmethod | staticmethod)):
        mark = "" if issubclass(plugin_class, Plugin) else ", with @hookimpl directly above it"
        return f"is never called: write a method of the class by def or async def{mark}"
    hook = options.get("specname") or attribute
    if hook not in HOOKS:
        return "" if options.get("optionalhook") else f"is not a hook{did_you_mean(hook, HOOKS)}"
    for option in ("tryfirst", "trylast", "wrapper", "hookwrapper"):
        if options.get(option):
            return f"has {option}=True, which has no effect: remove it; priority orders plugins"
    return _misfit(hook, function, is_method=is_method)


def _misspelt(plugin_class: type, attribute: str) -> str:
    """Return which hook is meant by a public method; an empty text for one of the plugin's own.

    Of what a base that is no plugin brings, only misspelt names count.
    """
    is_own = attribute.startswith("_") or not issubclass(plugin_class, Plugin)
    if is_own or not inspect.isroutine(getattr(plugin_class, attribute, None)):
        return ""
    meant = get_close_matches(attribute, HOOKS, n=1, cutoff=0.87)
    words = attribute.split("_")
    if all(issubclass(c, Plugin) for c in plugin_class.__mro__ if attribute in vars(c)):
        prefix = next((one for one in (ADJUST, RESTRICT) if attribute.startswith(one)), "")
        asking = [hook for name in ENDPOINTS if (hook := prefix + name) in HOOKS]
        meant[:0] = [hook for hook in asking if _is_part(words, hook.split("_"))]
        usual = _USUAL_WORDS.fullmatch("".join(word for word in words if word not in _PARTICLES))
        if usual is not None or words[0] == "on":
            meant.append(str(usual.lastgroup) if usual is not None else "")
    text = "is not a hook, and is never called"
    text += f"; did you mean {meant[0]!r}? Otherwise begin" if any(meant[:1]) else ": begin"
    own = f"{text} the name of a method of your own with _"
    return own if meant and not _is_used(plugin_class, attribute) else ""


def _is_used(plugin_class: type, attribute: str) -> bool:
    """Return whether the source of the class has ``self.ATTRIBUTE``, such as for a route."""
    for base in plugin_class.__mro__:
        with suppress(OSError, TypeError, SyntaxError):  # where there is none
            if re.search(rf"\bself\.{attribute}\b", inspect.getsource(base)):
                return True
    return False


_USUAL_WORDS = re.compile(
    "(?P<lifespan>start|startup|setup|init|initiali[sz]e|open|enter|stop|shutdown|teardown|cleanup|"
    "dispose|destroy|a?close|exit|unload)|"
    "(?P<status>health|healthcheck|ready|readiness|live|liveness|metrics)"
)
"""By hook: what other frameworks call the same."""
_PARTICLES = ("on", "before", "after", "pre", "post", "async", "plugin", "server")
"""What such a word may stand next to."""


def _is_part(words: list[str], others: list[str]) -> bool:
    """Return whether the words of one name are among those of the other."""
    shorter, longer = sorted((words, others), key=len)
    return all(any(is_typo(word, other) for other in longer) for word in shorter)


def _misfit(hook: str, function: Hook, *, is_method: bool) -> str:
    """Return how to write a hook whose arguments or kind of function are wrong."""
    specification = inspect.signature(HOOKS[hook])
    expected, returned = list(specification.parameters), str(specification.return_annotation)
    taken = list(inspect.signature(function).parameters.values())
    takes_self = not is_method or (bool(taken) and taken[0].name == "self")
    if not takes_self or not all(
        one.name in expected[1:] and one.kind is not one.KEYWORD_ONLY for one in taken[is_method:]
    ):
        form = f"{hook}({', '.join(expected)})"
        return f"has other arguments than the hook: write {form}, or leave out the last ones"
    inner = inspect.unwrap(function)
    is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    generates = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    is_managed = inner is function or inspect.isasyncgenfunction(inner)
    if hook == "lifespan":
        if is_async or generates or not is_managed:
            return "must be an async def with one yield, and @asynccontextmanager above it"
    elif not returned.startswith("Iterable"):
        return "must return its answer, and has a yield" if generates else ""
    elif is_async:
        return "must be a plain def, as it is called while the policy is built"
    return ""


def _with_all_arguments(name: str, function: Hook) -> Hook:
    """Wrap a hook that leaves out arguments, or has them in another order, into one of all."""
    taken = tuple(inspect.signature(function).parameters)
    expected = tuple(inspect.signature(HOOKS[name]).parameters)[1:]
    if taken == expected and taken:
        return function
    places = [expected.index(argument) for argument in taken]

    # Not ``async def``, as awaiting one more coroutine is not free.
    def pass_taken(*given: Any) -> Any:
        return function(*[given[place] for place in places])

    setattr(pass_taken, _METHOD, function)
    return pass_taken


def method_of(hook: Hook) -> Hook:
    """Return the method of the plugin that a hook passes its arguments on to."""
    method: Hook = getattr(hook, _METHOD, hook)
    return method


def can_reject(instance: object) -> bool:
    """Return the plugin's own ``can_reject``; without one, guess, for a warning.

    The guess is true if the module of the class imports ``Reject``.
    """
    if (declared := getattr(instance, "can_reject", None)) is not None:
        return bool(declared)
    module = sys.modules.get(type(instance).__module__)
    return any(value is Reject for value in vars(module or object).values())


def _imported(available: PluginSource) -> type:
    """Import a plugin class; raises ``PluginBuildError``."""
    try:
        with hook_context(available.name, IMPORT):
            plugin_class = available.load()
    except BaseException as error:
        raise _build_error(f"{available} cannot be imported", error) from error
    if not isinstance(plugin_class, type):
        raise PluginBuildError(
            f"{available}: {available.source} is not a class: write MODULE:CLASS"
        )
    wanted = getattr(plugin_class, "pexpolicy_api", hooks.HOOK_API)
    if not isinstance(wanted, int) or wanted > hooks.HOOK_API:
        raise PluginBuildError(
            f"{available} asks for hook API {brief(wanted)}, and this pexpolicy has "
            f"{hooks.HOOK_API}: upgrade pexpolicy, or install an older version of the plugin"
        )
    return plugin_class


def load_settings(name: str, config: Path | None = None) -> Any:
    """Return the checked settings of the ``Plugin`` of the table ``[plugins.NAME]``.

    For commands of the plugin itself. ``config`` is the configuration file, by default that of
    ``PEXPOLICY_CONFIG``, or ``config.toml``. Sources in the settings are not open. Raises
    ``SettingsError`` with all problems of the file and of the settings.
    """
    path = Path(config or os.environ.get("PEXPOLICY_CONFIG") or "config.toml")
    try:
        settings = load(path)
    except ConfigError as error:
        raise SettingsError(problems=error.problems) from None
    if name not in settings.plugins:
        raise SettingsError(f"is missing in {path}", key=("plugins", name))
    folder, shared = settings.policy_folder, SharedResources()
    lease = SourceLease(shared, settings.sources, folder, with_settings)
    found, problems = discover(settings.plugin_folders)
    with lease.resolving():
        tables = {name: settings.plugins[name]}
        plugins, unbuilt = build(tables, found, folder, sources=lease)
    if problems or unbuilt:
        raise SettingsError(problems=[*problems, *unbuilt])
    return getattr(plugins[0].instance, "settings", None)


def with_settings(
    name: object, owner: type, values: Context, context: Context, key: Key = ()
) -> object:
    """Build a plugin or driver with its settings, or without if its class has neither those nor a
    constructor; ``key`` is that of the settings.
    """
    settings, problems = _validated(name, owner, values, context, key)
    paths = context["paths"]
    paths[:] = [
        one._replace(key=(*key, *at))
        for one in paths
        if (at := key_of(settings, one.path)) is not None
    ]
    own = [getattr(owner, name) for name in ("__init__", "__new__")]
    is_bare = "Settings" not in vars(owner) and own == [object.__init__, object.__new__]
    built: object = None
    try:
        built = owner() if is_bare else owner(settings)
        if isinstance(built, Plugin) and not hasattr(built, "settings"):
            built.settings = settings
    except SettingsError as error:
        problems += error.under(key)
    except BaseException as error:
        at = key_of(settings, error.source) if isinstance(error, FieldsError) else None
        if isinstance(error, FieldsError) and at is not None:
            problems += [Problem((*key, *at, *one.key), one.rule) for one in error.issues]
        elif not problems:
            raise _build_error(f"{name} cannot be built", error) from error
    if problems:
        raise PluginBuildError(problems=problems)
    return built


def settings_class(name: object, owner: type) -> type[PluginSettings]:
    """Return the class of the settings of a plugin or driver class; raises ``PluginBuildError``."""
    model, what = getattr(owner, "Settings", PluginSettings), "the Settings"
    if isinstance(model, type) and issubclass(model, PluginSettings):
        if not (lax := lax_models(model)):
            return model
        what = f"{', '.join(lax)} in the Settings"
    raise PluginBuildError(f"{name}: {what} of {owner.__name__} do not inherit PluginSettings")


def _validated(
    name: object, owner: type, values: Context, context: Context, key: Key
) -> tuple[PluginSettings, list[Problem]]:
    """Return the settings of a plugin or driver class, and the problems of secrets in them, for
    which others stand. Raises ``PluginBuildError`` for other problems.
    """
    model, problems = PluginSettings, list[Problem]()
    try:
        model = settings_class(name, owner)
        for skips in (False, True):
            try:
                return read_settings(model, values, {**context, "skips_secrets": skips}), problems
            except pydantic.ValidationError as error:
                found = PluginBuildError(problems=problems_of(error, model)).under(key)
                problems += [one for one in found if one not in problems]
    except PluginBuildError:
        raise
    except BaseException as error:
        raise _build_error(f"{name}: its Settings cannot be read", error) from error
    if model is PluginSettings:
        text = f"unknown key: the class {owner.__name__} has no Settings; write Plugin[Settings]"
        problems = [replace(one, text=text) for one in problems]
    raise PluginBuildError(problems=problems)


def _build_error(text: str, error: BaseException) -> PluginBuildError:
    if isinstance(error, PluginBuildError):
        return PluginBuildError(f"{text}: {error}")
    # Shown by serve --debug and explain --traceback.
    logging.getLogger(__name__).debug("plugin failed", exc_info=error)
    return PluginBuildError(f"{text}: {describe_error(error).summary}")


@dataclass(frozen=True, slots=True)
class BuiltPlugin:
    """A built plugin: its source, its table in the configuration, and its hooks by name.

    The settings in ``table`` are hashes, to find out which have changed.
    """

    available: PluginSource
    table: PluginTable
    instance: object
    hooks: Mapping[str, Hook]
    implemented: Collection[str]
    """The names of the hooks that the plugin has; a process adds some to ``hooks``."""
    can_reject: bool
    """The plugin's own ``can_reject``; without one, a guess."""
    threads: PluginThreadPool
    is_isolated: bool = False
    """Whether it runs in worker processes of its own."""
    refreshed: tuple[Refreshed[Any], ...] = ()
    """The data that the server refreshes for it."""
    jobs: tuple[ScheduledJob, ...] = ()
    """The jobs that the server runs for it."""
    shared: tuple[SharedItem, ...] = ()
    """What it shares with other workers and servers."""
    files: tuple[Path, ...] = ()
    """The files that it tracked while it was built; those of its sources are theirs."""
    paths: tuple[NamedPath, ...] = ()
    """What its settings name, and the folders of its cache files."""

    @property
    def name(self) -> str:
        """Return the name used in the configuration, the audit line and everywhere else."""
        return self.available.name

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
        raise PluginBuildError(
            f"{self.available}: its lifespan returned {brief(returned)}, and not an asynchronous "
            "context manager: write async def, and @asynccontextmanager above it"
        )

    def close(self) -> None:
        """Release the plugin's threads."""
        self.threads.close()


def build(
    tables: Mapping[str, PluginTable],
    found: Mapping[str, PluginSource],
    root: Path,
    *,
    sources: SourceLease | None = None,
    isolate: Callable[[PluginSource, PluginTable, Path], BuiltPlugin] | None = None,
) -> tuple[list[BuiltPlugin], list[Problem]]:
    """Build the configured plugins in the order in which they are asked; return all problems too.

    Relative paths in the settings are relative to ``root``; ``sources`` are those that they may
    name. ``isolate`` builds plugins with ``isolation = "process"``.
    """
    plugins: list[BuiltPlugin] = []
    problems: list[Problem] = []
    for name, table in sorted(tables.items(), key=lambda item: item[1].priority):
        key: Key = ("plugins", name)
        try:
            available = select(name, tables, found)
            with hook_context(name, "__init__"):
                if isolate is not None and table.isolation == "process":
                    plugins.append(isolate(available, table, root))
                else:
                    context: dict[str, Any] = {"root": root, "sources": sources, "paths": []}
                    plugins.append(_build_one(available, table, context))
        except PluginBuildError as error:
            problems += [replace(one, cause=error.__cause__) for one in error.under(key)]
    return plugins, problems


def _build_one(available: PluginSource, table: PluginTable, context: Context) -> BuiltPlugin:
    context = {**context, "timeout": table.timeout, **table.known}
    with collecting_declarations() as declared, tracking() as tracked:
        owner = _imported(available)
        instance = with_settings(available, owner, table.settings, context, ("settings",))
    of_sources = set(getattr(context["sources"], "files", ()))
    implemented = collect_hooks(available, instance)
    if not implemented:
        raise PluginBuildError(f"{available} implements no hook: override a method of Plugin")
    try:
        rejects = can_reject(instance)
    except Exception as error:
        raise _build_error(f"{available}: its can_reject failed", error) from error
    refreshed = declared_by(instance, declared, Refreshed)
    return BuiltPlugin(
        available,
        without_settings(table),
        instance,
        implemented,
        implemented.keys(),
        rejects,
        PluginThreadPool(available.name, table.threads),
        refreshed=refreshed,
        jobs=declared_by(instance, declared, ScheduledJob),
        shared=declared_by(instance, declared, SharedItem),
        files=tuple(file for file in dict.fromkeys(tracked.files) if file not in of_sources),
        paths=own_paths(("plugins", available.name), context["paths"], refreshed),
    )


def without_settings(table: PluginTable) -> PluginTable:
    """Keep hashes of the raw settings: a table of 100,000 rooms is not needed after building."""
    hashes = {name: digest_of(value) for name, value in table.settings.items()}
    return table.model_copy(update={"settings": hashes})


def blocks(function: Hook) -> bool:
    """Return true for a hook that runs in a thread."""
    return not inspect.iscoroutinefunction(method_of(function))
