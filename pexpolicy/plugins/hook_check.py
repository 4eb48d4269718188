"""Collection and validation of a plugin's hooks; the only user of pluggy's PluginManager."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pluggy

from pexpolicy import hooks
from pexpolicy.config.problems import Problem
from pexpolicy.plugins.discovery import MARK, PluginSource
from pexpolicy.plugins.errors import PluginBuildError
from pexpolicy.text import did_you_mean

SPEC_MARK = "pexpolicy_spec"
"""Attribute that pluggy's marker sets on a specification."""


def collect_hooks(
    available: PluginSource, instance: object
) -> tuple[dict[str, Callable[..., Any]], tuple[str, ...]]:
    """Return the hooks of one plugin by name, and the warnings about deprecated ones.

    Raises ``PluginBuildError`` for misspelt, wrapping and duplicate hooks.
    """
    pm = pluggy.PluginManager("pexpolicy")
    pm.add_hookspecs(hooks)
    _refuse_misspelt(available, instance)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pm.register(instance, name=available.name)
            pm.check_pending()
    except (pluggy.PluginValidationError, ValueError, TypeError) as error:
        raise PluginBuildError([Problem((), f"{available}: {_one_line(error)}")]) from None
    implemented: dict[str, Callable[..., Any]] = {}
    for caller in pm.get_hookcallers(instance) or ():
        mine = caller.get_hookimpls()
        if any(impl.hookwrapper or impl.wrapper for impl in mine):
            text = f"{available}: {caller.name} is a wrapper; a decision has nothing to wrap"
            raise PluginBuildError([Problem((), text)])
        if len(mine) > 1:
            text = f"{available}: {caller.name} is implemented twice"
            raise PluginBuildError([Problem((), text)])
        impl = mine[0]
        takes_request = bool(impl.argnames)
        implemented[caller.name] = (
            impl.function if takes_request else _without_request(impl.function)
        )
    return implemented, tuple(f"{available}: {_one_line(item.message)}" for item in caught)


def _refuse_misspelt(available: PluginSource, instance: object) -> None:
    """Refuse an unknown hook or argument with a suggestion; pluggy's own text has none."""
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
            raise PluginBuildError.because(text)
        expected = list(inspect.signature(spec).parameters)
        taken = list(inspect.signature(function).parameters)
        if method and taken[:1] != ["self"]:
            rule = f"must take self first: write {name}({', '.join(['self', *expected])})"
            raise PluginBuildError.because(f"{available}: {name} {rule}")
        taken = taken[1:] if method else taken
        if wrong := [p for p in taken if p not in expected]:
            what = f"takes {expected[0]!r}" if expected else "takes nothing"
            text = f"{available}: {name} {what}, and nothing called {wrong[0]!r}"
            raise PluginBuildError.because(text)


def _one_line(error: Exception | Warning | str) -> str:
    return " ".join(str(error).split())


def _without_request(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a hook that takes no argument into one that takes any."""
    if inspect.iscoroutinefunction(function):

        async def call(*_: Any) -> Any:
            return await function()

        return call
    return lambda *_: function()
