"""Instantiation of a plugin class with its validated settings."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from pexpolicy.config.problems import Key, PluginBuildError, Problem, problems_of
from pexpolicy.config.schema.plugins import PluginTable, SourceTable
from pexpolicy.endpoints.decision_fields import FieldsError
from pexpolicy.errors import describe_error
from pexpolicy.plugins.discovery import PluginSource
from pexpolicy.text import brief


def instantiate(available: PluginSource, table: PluginTable, root: Path) -> object:
    """Import a plugin class and build it with its settings. Raises ``PluginBuildError``."""
    try:
        with importing():
            plugin_class = available.load()
        record_version(available)
    except BaseException as error:
        raise _build_error(f"{available} cannot be imported", error) from error
    if not isinstance(plugin_class, type):
        text = f"{available}: its entry point {available.source} is not a class"
        raise PluginBuildError([Problem((), text)])
    wanted = getattr(plugin_class, "pexpolicy_api", hooks.HOOK_API)
    if not isinstance(wanted, int):
        text = f"{available}: its pexpolicy_api must be a number, such as 1, not {brief(wanted)}"
        raise PluginBuildError.because(text)
    if wanted > hooks.HOOK_API:
        text = (
            f"{available} asks for hook API {wanted}, and this pexpolicy has {hooks.HOOK_API}: "
            "upgrade pexpolicy, or install an older version of the plugin"
        )
        raise PluginBuildError.because(text)
    settings = _settings(available, plugin_class, table, root)
    try:
        return construct(plugin_class, settings)
    except SettingsError as error:
        raise PluginBuildError(
            Problem(("settings", *problem.key), problem.text) for problem in error.problems
        ) from None
    except FieldsError as error:
        if (key := key_of(settings, error.source)) is None:
            raise _build_error(f"{available} cannot be built", error) from error
        raise PluginBuildError(
            Problem(("settings", *key, *issue.key), issue.text) for issue in error.issues
        ) from None
    except BaseException as error:
        raise _build_error(f"{available} cannot be built", error) from error


def construct(owner: type, settings: BaseModel) -> object:
    """Call the constructor with the settings, or without if the class has neither."""
    if "Settings" not in vars(owner) and _has_default_constructor(owner):
        return owner()
    if inspect.iscoroutinefunction(getattr(owner, "__init__", None)):
        text = f"{owner.__name__}.__init__ is async def: write def, and open things in lifespan"
        raise PluginBuildError.because(text)
    _refuse_without_settings(owner, settings)
    return owner(settings)


def _has_default_constructor(plugin_class: type) -> bool:
    """Return whether the class neither defines nor inherits a constructor."""
    own = {name: getattr(plugin_class, name) for name in ("__init__", "__new__")}
    return own == {"__init__": object.__init__, "__new__": object.__new__}


def _refuse_without_settings(plugin_class: type, settings: BaseModel) -> None:
    """Refuse a constructor that cannot take the settings; Python's own text is no help."""
    try:
        signature = inspect.signature(plugin_class)
    except (ValueError, TypeError):
        return  # some callables have no signature and work all the same
    try:
        signature.bind(settings)
    except TypeError:
        name = plugin_class.__name__
        text = f"{name} does not take its settings: give it __init__(self, settings)"
        raise PluginBuildError.because(text) from None


def _settings(
    available: PluginSource, plugin_class: type, table: PluginTable, root: Path
) -> BaseModel:
    known = {"root": root, "timeout": table.timeout, "extras": table.extras}
    return validated_settings(available, plugin_class, table.settings, known, ("settings",))


def validated_settings(
    name: object,
    owner: type,
    values: Mapping[str, Any],
    context: Mapping[str, Any],
    prefix: Key = (),
) -> BaseModel:
    """Return the settings of a plugin or driver class; raises ``PluginBuildError``.

    ``prefix`` is put before the keys of its problems.
    """
    model = getattr(owner, "Settings", PluginSettings)
    if not (isinstance(model, type) and issubclass(model, PluginSettings)):
        text = (
            f"{name}: the Settings of {owner.__name__} do not inherit PluginSettings: "
            "write class Settings(PluginSettings)"
        )
        raise PluginBuildError.because(text)
    try:
        if lax := lax_models(model):
            text = (
                f"{', '.join(lax)} in the Settings of {owner.__name__} would accept unknown keys "
                "without an error: inherit PluginSettings instead of BaseModel"
            )
            raise PluginBuildError.because(f"{name}: {text}")  # noqa: TRY301 - as from a model
        return read_settings(model, values, context)
    except PluginBuildError:
        raise
    except pydantic.ValidationError as error:
        problems = problems_of(error, model)
    except BaseException as error:
        raise _build_error(f"{name}: its Settings cannot be read", error) from error
    if model is PluginSettings:
        text = f"unknown key: the class {owner.__name__} has no Settings"
        problems = [Problem(problem.key, text) for problem in problems]
    raise PluginBuildError(Problem((*prefix, *problem.key), problem.text) for problem in problems)


def driver(driver_class: type, table: SourceTable, root: Path) -> object:
    """Build the driver of a source with its settings; raises ``PluginBuildError``."""
    settings = validated_settings(table.driver, driver_class, table.settings, {"root": root})
    try:
        return construct(driver_class, settings)
    except SettingsError as error:
        raise PluginBuildError(error.problems) from None
    except PluginBuildError:
        raise
    except BaseException as error:
        raise _build_error(f"{table.driver} cannot be built", error) from error


def _build_error(text: str, error: BaseException) -> PluginBuildError:
    if isinstance(error, PluginBuildError):
        return PluginBuildError.because(f"{text}: {error}")
    # Shown by serve --debug and explain --traceback.
    logging.getLogger(__name__).debug("plugin failed", exc_info=error)
    summary = describe_error(error).summary
    hint = "; start tasks in lifespan" if "no running event loop" in summary else ""
    return PluginBuildError.because(f"{text}: {summary}{hint}")


_VERSION = "__pexpolicy_version__"
"""Attribute of a module: the version of its distribution when it was imported."""


def record_version(available: PluginSource) -> None:
    """Remember the version of a module that was imported a moment ago, or before."""
    module = sys.modules.get(_module(available))
    if module is not None:
        vars(module).setdefault(_VERSION, available.version)


def running(available: PluginSource) -> tuple[PluginSource, str]:
    """Return the plugin with the version that runs, and a remark where another one is installed."""
    module = sys.modules.get(_module(available))
    version = available.version if module is None else vars(module).get(_VERSION, available.version)
    if version == available.version:
        return available, ""
    text = f"{available.origin} is installed, and {version} runs: restart the server"
    return replace(available, version=version), text


def _module(available: PluginSource) -> str:
    return available.source.partition(":")[0]
