"""Instantiation of a plugin class with its validated settings, and of the driver of a source."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pydantic
from pydantic import BaseModel

from pexpolicy import hooks
from pexpolicy.background.declarations import importing
from pexpolicy.config.plugin_settings import (
    PluginSettings,
    SettingsError,
    key_of,
    lax_models,
    read_settings,
)
from pexpolicy.config.problems import PluginBuildError, Problem, problems_of
from pexpolicy.config.schema.plugins import PluginTable, SourceTable
from pexpolicy.endpoints.decision_fields import FieldsError
from pexpolicy.errors import describe_error
from pexpolicy.plugins.discovery import PluginSource
from pexpolicy.text import brief

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
