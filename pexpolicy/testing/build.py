"""From plugins in the hand of a test to a policy, through the door that installed plugins take."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document, load
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.plugins.discovery import RESERVED, PluginSource, discover
from pexpolicy.policy import Policy

Config = Mapping[str, Any]
Subject = object
"""Whom to ask: a plugin class; a pair of a class and its settings; an instance; several of them in
a list, or in a mapping by name; the ``Path`` of a configuration file; or a serving ``Policy``."""

_HASH = "0" * 16
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class _PluginUnderTest:
    """One plugin as it was handed over: its class, and its settings where there are some."""

    plugin_class: type
    settings: Mapping[str, Any] | None = None


class Log:
    """Faults of plugins, for the standard logging: pytest shows it where a test fails."""

    def warning(self, event: str, **fields: object) -> None:
        """Write one warning, each field on a line of its own."""
        lines = [f"  {name}: {value}" for name, value in fields.items()]
        logging.getLogger("pexpolicy").warning("%s", "\n".join([event, *lines]))


@asynccontextmanager
async def opened(subject: Subject, config: Config | None = None) -> AsyncIterator[Policy]:
    """A policy that serves; one that was built here is closed on leaving."""
    if isinstance(subject, Policy):
        _no_config(config, "a policy")
        yield subject
    else:
        async with make_policy(subject, config=config).serving() as policy:
            yield policy


def make_policy(plugins: Subject, *, config: Config | None = None) -> Policy:
    """The policy that these plugins make, asked in the order in which they are given.

    ``config`` is what else would stand in the configuration file: other tables, and the
    ``priority``, ``timeout`` (seconds) or ``on_error`` of a plugin. A plugin is named after its
    class, in lower case and with ``_`` between words, unless a mapping names it. Raises
    ``ConfigError`` with everything that is wrong, and ``TypeError`` for what is no plugin::

        policy = make_policy([Doors, Rooms], config={"plugins": {"doors": {"timeout": 0.1}}})
        async with policy.serving():
            outcome = await decide(policy, make_request("service_configuration"))
    """
    if isinstance(plugins, Path):
        _no_config(config, "a configuration file")
        return build_policy(load(plugins), log=Log())
    given = _named(plugins)
    available = {name: _available(name, one) for name, one in given.items()}
    settings = _settings(given, config or {})
    if not settings.plugins.keys() <= available.keys():
        found, problems = discover(settings.plugin_dirs)
        if problems:
            raise ConfigError(settings.path, problems)
        available = {**found, **available}
    return build_policy(settings, available=available, log=Log())


def _no_config(config: Config | None, what: str) -> None:
    if config is not None:
        msg = f"config goes with plugins; {what} has its own"
        raise TypeError(msg)


def _settings(given: Mapping[str, _PluginUnderTest], config: Config) -> Settings:
    tables = {
        name: {} if one.settings is None else {"settings": dict(one.settings)}
        for name, one in given.items()
    }
    for name, table in config.get("plugins", {}).items():
        before = tables.get(name, {})
        if "settings" in before and "settings" in table:
            msg = f"the settings of {name} are given twice: beside the class, and in config"
            raise TypeError(msg)
        tables[name] = {**before, **table}
    return from_document({**config, "plugins": tables}, Path("config.toml"), _HASH)


def _named(plugins: Subject) -> dict[str, _PluginUnderTest]:
    if isinstance(plugins, Mapping):
        return {str(name): _one(plugin) for name, plugin in plugins.items()}
    several = plugins if isinstance(plugins, list | tuple) and not _is_pair(plugins) else [plugins]
    named: dict[str, _PluginUnderTest] = {}
    for given in map(_one, several):
        plain = _WORD.sub("_", given.plugin_class.__name__).lower()
        name = plain = f"{plain}_plugin" if plain in RESERVED else plain
        number = 1
        while name in named:
            number += 1
            name = f"{plain}_{number}"
        named[name] = given
    return named


def _is_pair(plugins: object) -> bool:
    return (
        isinstance(plugins, tuple)
        and len(plugins) == 2  # noqa: PLR2004 - a pair
        and isinstance(plugins[0], type)
        and isinstance(plugins[1], Mapping)
    )


def _one(plugin: object) -> _PluginUnderTest:
    if isinstance(plugin, tuple) and _is_pair(plugin):
        return _PluginUnderTest(plugin[0], plugin[1])
    if isinstance(plugin, type):
        return _PluginUnderTest(plugin)
    if isinstance(plugin, str | bytes | list | tuple | Mapping | ModuleType | FunctionType) or (
        plugin is None
    ):
        msg = (
            f"a {type(plugin).__name__} is no plugin: give a class, a class with its settings, an "
            "instance, several of them, or the Path of a configuration file"
        )
        raise TypeError(msg)
    return _PluginUnderTest(_class_that_gives(plugin))


def _class_that_gives(instance: object) -> type:
    """A class that is built as each plugin's class is, and gives what exists already.

    It bears the names of the real class, so that messages blame that one, and asks for
    the same version of the hooks.
    """
    real = type(instance)

    def give(_: type, __: object) -> object:
        return instance

    names = ("__module__", "__qualname__", "pexpolicy_api")
    same = {name: getattr(real, name) for name in names if hasattr(real, name)}
    return type(real.__name__, (), {"__new__": give, **same})


def _available(name: str, given: _PluginUnderTest) -> PluginSource:
    plugin_class = given.plugin_class
    module = plugin_class.__module__
    return PluginSource(
        name=name,
        distribution=module,
        version="unreleased",
        source=f"{module}:{plugin_class.__qualname__}",
        load=lambda: plugin_class,
    )
