"""From a plugin class and its table in the configuration to an object."""

from __future__ import annotations

import inspect
from pathlib import Path

import pydantic
from pydantic import BaseModel

from pexpolicy import hooks
from pexpolicy.config.problems import Problem, problems_of
from pexpolicy.config.schema.plugins import PluginTable
from pexpolicy.config.settings import PluginSettings, SettingsError
from pexpolicy.errors import describe_error
from pexpolicy.plugins.discovery import PluginSource
from pexpolicy.plugins.errors import PluginBuildError


def instantiate(available: PluginSource, table: PluginTable, root: Path) -> object:
    """The object of a plugin class, made with its settings. Raises ``PluginBuildError``."""
    try:
        plugin_class = available.load()
    except BaseException as error:  # noqa: BLE001 - importing runs whatever the package holds
        raise _unbuildable(f"{available} cannot be imported", error) from None
    if not isinstance(plugin_class, type):
        text = f"{available}: its entry point {available.source} names no class"
        raise PluginBuildError([Problem((), text)])
    wanted = getattr(plugin_class, "pexpolicy_api", hooks.HOOK_API)
    if not isinstance(wanted, int) or wanted > hooks.HOOK_API:
        text = (
            f"{available} asks for hook API {wanted}, and this pexpolicy has {hooks.HOOK_API}: "
            "upgrade pexpolicy, or install an older version of the plugin"
        )
        raise PluginBuildError.because(text)
    settings = _settings(plugin_class, table, root)
    try:
        if "Settings" not in vars(plugin_class) and _takes_nothing(plugin_class):
            return plugin_class()
        _refuse_without_settings(plugin_class, settings)
        return plugin_class(settings)
    except SettingsError as error:
        raise PluginBuildError(
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
        raise PluginBuildError.because(text) from None


def _settings(plugin_class: type, table: PluginTable, root: Path) -> BaseModel:
    model = getattr(plugin_class, "Settings", PluginSettings)
    try:
        known = {"root": root, "timeout": table.timeout, "extras": table.extras}
        validated: BaseModel = model.model_validate(table.settings, context=known)
    except pydantic.ValidationError as error:
        raise PluginBuildError(
            Problem(("settings", *problem.key), problem.text)
            for problem in problems_of(error, model)
        ) from None
    return validated


def _unbuildable(text: str, error: BaseException) -> PluginBuildError:
    if isinstance(error, PluginBuildError):
        return PluginBuildError.because(f"{text}: {error}")
    return PluginBuildError.because(f"{text}: {describe_error(error).summary}")
