"""Collection and validation of a plugin's hooks; the only user of pluggy's PluginManager."""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, NoReturn

import pluggy

from pexpolicy.chain.fold import ADJUST
from pexpolicy.config.problems import PluginBuildError, Problem
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.errors import describe_error
from pexpolicy.hooks import HOOKS, IMPL_MARK, SPEC_MARK, Plugin
from pexpolicy.models.decision import Reject
from pexpolicy.plugins.discovery import PluginSource
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
RENAMED = {
    "check": "config_warnings",
    "decided": "on_decision",
    "prepared": "static_decisions",
    "watched": "tracked_files",
}
"""Hooks by the names that they had before the first release."""
_MEANT = {
    "adjust": "adjust_service_configuration",
    "avatar": "participant_avatar",
    "directory": "directory_information",
    "location": "media_location",
    "participant_location": "media_location",
    "registration": "registration_alias",
    "registrations": "directory_information",
    "start": "lifespan",
    "startup": "lifespan",
    "stop": "lifespan",
}
"""Names that are not near enough to those of the hooks that are meant."""
_METHOD = "pexpolicy_method"
"""Attribute of a hook that only passes its arguments on: the method of the plugin."""
_NAMED = inspect.Parameter.KEYWORD_ONLY
SIMILAR = 0.87
"""Similarity from which on a public method of a ``Plugin`` is taken for a misspelt hook."""
SIMILAR_ADJUSTER = 0.66
"""The same for one whose name begins with ``adjust_``, such as ``adjust_service``."""


def collect_hooks(
    available: PluginSource, instance: object
) -> tuple[dict[str, Callable[..., Any]], tuple[str, ...]]:
    """Return the hooks of one plugin by name, and the warnings about deprecated ones.

    Raises ``PluginBuildError`` for misspelt, wrapping and duplicate hooks, and for a
    ``can_reject`` that raises, or is neither true nor false.
    """
    pm = pluggy.PluginManager("pexpolicy")
    pm.add_hookspecs(Plugin)
    _check_methods(available, instance)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pm.register(instance, name=available.name)
            pm.check_pending()
            callers = pm.get_hookcallers(instance) or ()
    except (pluggy.PluginValidationError, ValueError, TypeError) as error:
        raise PluginBuildError([Problem((), f"{available}: {_one_line(error)}")]) from None
    for item in caught:
        # Again outside of the recording, for ``pytest -W error::DeprecationWarning``.
        warnings.warn_explicit(item.message, item.category, item.filename, item.lineno)
    implemented: dict[str, Callable[..., Any]] = {}
    for caller in callers:
        if caller.name not in HOOKS:
            continue  # optional, and of a later version
        mine = caller.get_hookimpls()
        if any(impl.hookwrapper or impl.wrapper for impl in mine):
            text = f"{available}: {caller.name} is a wrapper; a decision has nothing to wrap"
            raise PluginBuildError([Problem((), text)])
        if len(mine) > 1:
            text = f"{available}: {caller.name} is implemented twice"
            raise PluginBuildError([Problem((), text)])
        implemented[caller.name] = _with_all_arguments(caller.name, mine[0])
    if "lifespan" not in implemented:
        _refuse_context(available, type(instance))
    if {"on_decision", "on_decisions"} <= implemented.keys():
        text = f"{available}: on_decision and on_decisions observe the same: implement one of them"
        raise PluginBuildError.because(text)
    _check_can_reject(available, instance)
    return implemented, tuple(
        f"{available}: {_one_line(item.message)} (deprecated)" for item in caught
    )


def _check_can_reject(available: PluginSource, instance: object) -> None:
    try:
        can_reject = getattr(instance, "can_reject", None)
    except BaseException as error:
        text = f"{available}: its can_reject failed: {describe_error(error).summary}"
        raise PluginBuildError.because(text) from error
    if not (can_reject is None or isinstance(can_reject, bool)):
        text = f"{available}: its can_reject is {brief(can_reject)}: write True or False, no method"
        raise PluginBuildError.because(text)


def _check_methods(available: PluginSource, instance: object) -> None:
    """Refuse methods that pluggy would ignore, or refuse without a suggestion."""
    plugin_class = type(instance)
    for name in dir(plugin_class):
        function = getattr(plugin_class, name, None)
        if hasattr(function, SPEC_MARK):
            _refuse_hidden(available, plugin_class, name)
            continue
        if name in HOOKS and not (inspect.isroutine(function) and hasattr(function, IMPL_MARK)):
            _refuse_unmarked(available, plugin_class, name)
        if not callable(function):
            continue
        if hasattr(function, IMPL_MARK):
            _check_marked(available, plugin_class, name, function)
        elif not inspect.isroutine(function) or name.startswith("_"):
            continue
        elif issubclass(plugin_class, Plugin) and (
            close := get_close_matches(name, HOOKS, n=1, cutoff=_similarity(name))
        ):
            text = (
                f"{available}: the method {name} is not a hook, and would never be called; did you "
                f"mean {close[0]!r}? Begin the name of a method of your own with _"
            )
            raise PluginBuildError.because(text)


def _refuse_hidden(available: PluginSource, plugin_class: type, name: str) -> None:
    """Refuse a hook of a class that is named after ``Plugin`` among the bases."""
    for base in plugin_class.__mro__:
        if not (base is Plugin or issubclass(base, Plugin)) and name in vars(base):
            text = (
                f"{available}: {name} of {base.__name__} would never be called: name "
                f"{base.__name__} before Plugin among the bases of {plugin_class.__name__}"
            )
            raise PluginBuildError.because(text)


def _refuse_context(available: PluginSource, plugin_class: type) -> None:
    """Refuse a plugin that is a context manager in place of having a lifespan."""
    for name in ("__aenter__", "__enter__"):
        if hasattr(plugin_class, name):
            text = (
                f"{available}: {name} is never called: write lifespan, with @asynccontextmanager, "
                "which may enter the plugin by async with self"
            )
            raise PluginBuildError.because(text)


def _similarity(name: str) -> float:
    return SIMILAR_ADJUSTER if name.startswith("adjust_") else SIMILAR


def _refuse_unmarked(available: PluginSource, plugin_class: type, name: str) -> NoReturn:
    """Refuse an attribute that is named like a hook, and that pluggy would never call."""
    static = inspect.getattr_static(plugin_class, name)
    if not (inspect.isfunction(static) or hasattr(static, "__func__")):
        text = f"is a {type(static).__name__}: write a method, with @hookimpl above it"
    elif hasattr(static, IMPL_MARK):
        text = "has @hookimpl in the wrong place: write it directly above def"
    else:
        text = (
            "is the name of a hook, but the method has no @hookimpl of pexpolicy and would never "
            "be called: write @hookimpl above it, or rename it"
        )
    raise PluginBuildError.because(f"{available}: {name} {text}")


def _check_marked(
    available: PluginSource, plugin_class: type, attribute: str, function: Callable[..., Any]
) -> None:
    """Refuse an unknown hook or argument, pluggy's own order, and a wrong kind of function."""
    options = getattr(function, IMPL_MARK)
    name = options.get("specname") or attribute
    if name not in HOOKS:
        if options.get("optionalhook"):
            return
        hint = f"; it is called {RENAMED[name]!r}" if name in RENAMED else did_you_mean(name, HOOKS)
        if name in _MEANT:
            hint = f"; did you mean {_MEANT[name]!r}?"
        raise PluginBuildError.because(f"{available}: there is no hook {name!r}{hint}")
    method = _takes_self(available, plugin_class, attribute)
    expected = list(inspect.signature(HOOKS[name]).parameters)[1:]
    taken = list(inspect.signature(function).parameters)
    if method and taken[:1] != ["self"]:
        rule = f"must take self first: write {name}({', '.join(['self', *expected])})"
        raise PluginBuildError.because(f"{available}: {name} {rule}")
    taken = taken[1:] if method else taken
    if wrong := [p for p in taken if p not in expected]:
        what = f"takes {' and '.join(map(repr, expected))}" if expected else "takes nothing"
        text = f"{available}: {name} {what}, and nothing called {wrong[0]!r}"
        raise PluginBuildError.because(text)
    named = [p.name for p in inspect.signature(function).parameters.values() if p.kind is _NAMED]
    if named:
        rule = f"takes {named[0]!r} by name only: write {name}({', '.join(['self', *expected])})"
        raise PluginBuildError.because(f"{available}: {name} {rule}")
    for order in ("tryfirst", "trylast"):
        if options.get(order):
            text = (
                f"{available}: {name} has {order}=True, which has no effect: remove it, and write "
                f"priority in [plugins.{available.name}] (lower is asked first)"
            )
            raise PluginBuildError.because(text)
    if not (options.get("wrapper") or options.get("hookwrapper")) and (
        problem := _shape_problem(name, function)
    ):
        raise PluginBuildError.because(f"{available}: {name} {problem}")


def _takes_self(available: PluginSource, plugin_class: type, name: str) -> bool:
    """Return false for a static or class method; refuse what is no method, such as a cached one."""
    static = inspect.getattr_static(plugin_class, name)
    if inspect.isfunction(static):
        return True
    if isinstance(static, classmethod | staticmethod):
        return False
    text = f"is a {type(static).__name__}: write a method, with @hookimpl directly above def"
    raise PluginBuildError.because(f"{available}: {name} {text}")


def _shape_problem(name: str, function: Callable[..., Any]) -> str:
    """Return what is wrong with the kind of function for this hook; an empty text if nothing."""
    generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    if name == "lifespan":
        if inspect.isgeneratorfunction(inspect.unwrap(function)):
            return "is not asynchronous: write async def, and @asynccontextmanager below @hookimpl"
        if generator or inspect.iscoroutinefunction(function):
            return (
                "is not an asynchronous context manager: write @asynccontextmanager below "
                "@hookimpl, and yield once"
            )
        if inspect.iscoroutinefunction(inspect.unwrap(function)):
            return "has no yield: write one, between opening and closing"
    elif name in DESCRIBING:
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            return "is called while the policy is built: write a plain def"
    elif generator:
        return "contains yield, so its answer would be a generator: write return"
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
    call: Callable[..., Any]
    if taken == ("decision",):
        # The usual adjuster. Not ``async def``, as awaiting one more coroutine is not free.
        def pass_decision(_: Any, decision: Any) -> Any:
            return function(decision)

        call = pass_decision
    else:

        def pass_taken(*given: Any) -> Any:
            return function(*[given[place] for place in places])

        call = pass_taken
    setattr(call, _METHOD, function)
    return call


def method_of(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method of the plugin that a hook passes its arguments on to."""
    method: Callable[..., Any] = getattr(hook, _METHOD, hook)
    return method


_HARMLESS = frozenset(
    (
        *("None", "Optional", "Union", "Awaitable", "Service"),
        *(kind.__name__ for endpoint in ENDPOINTS.values() for kind in endpoint.decisions),
    )
) - {"Reject"}
"""Words of a return annotation that is no reject."""


def can_reject(instance: object, hooks: Mapping[str, Callable[..., Any]]) -> bool:
    """Return the plugin's own ``can_reject``; without one, guess.

    The guess is true if the module of the class imports ``Reject``, and a hook that may reject is
    not annotated as one that does not.
    """
    declared = getattr(instance, "can_reject", None)
    if isinstance(declared, bool):
        return declared
    module = sys.modules.get(type(instance).__module__)
    if all(value is not Reject for value in vars(module or object).values()):
        return False
    return any(
        endpoint.can_reject and _answers_reject(hooks[name])
        for name in hooks
        if (endpoint := ENDPOINTS.get(name.removeprefix(ADJUST))) is not None
    )


def _answers_reject(hook: Callable[..., Any]) -> bool:
    """Return false if the annotation of a hook names other decisions only."""
    annotation = getattr(method_of(hook), "__annotations__", {}).get("return", "object")
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return not _HARMLESS.issuperset(re.findall(r"(?:\w+\.)*(\w+)", text))
