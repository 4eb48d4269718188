"""Collection and check of a plugin's hooks; the only user of pluggy's PluginManager."""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import pluggy

from pexpolicy.chain.fold import ADJUST
from pexpolicy.config.problems import PluginBuildError
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
