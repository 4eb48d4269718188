"""Policies of plugin classes and instances, built as those of installed plugins are."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document, load
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.models.context import DryRunClock
from pexpolicy.plugins.discovery import RESERVED, PluginSource, discover
from pexpolicy.policy import BuildContext, Policy

Config = Mapping[str, Any]
Subject = object
"""What to test: a plugin class; a pair of a class and its settings; an instance; several of them in
a list, or in a mapping by name; the ``Path`` of a configuration file; or a serving ``Policy``."""

_HASH = "0" * 16
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class _PluginUnderTest(NamedTuple):
    """A plugin class, and its settings if there are any."""

    plugin_class: type
    settings: Mapping[str, Any] | None = None


class Log:
    """Log of plugin failures to the standard ``logging``, which pytest shows for a failed test."""

    def warning(self, event: str, **fields: object) -> None:
        """Write one warning, each field on a line of its own."""
        lines = [f"  {name}: {value}" for name, value in fields.items()]
        logging.getLogger("pexpolicy").warning("%s", "\n".join([event, *lines]))


@asynccontextmanager
async def opened(
    subject: Subject, config: Config | None = None, *, timeouts: bool = True
) -> AsyncIterator[Policy]:
    """Yield a serving policy; one that was built here is closed at the end."""
    if isinstance(subject, Policy):
        _no_config(config, "a policy")
        if not timeouts:
            msg = "timeouts=False goes with plugins, or with make_policy(…, timeouts=False)"
            raise TypeError(msg)
        yield subject
    else:
        async with make_policy(subject, config=config, timeouts=timeouts).serving() as policy:
            yield policy


def make_policy(plugins: Subject, *, config: Config | None = None, timeouts: bool = True) -> Policy:
    """Build the policy of these plugins, which are asked in the given order.

    ``config`` is the rest of the configuration file: other tables, and the
    ``priority``, ``timeout`` (seconds) or ``on_error`` of a plugin. A plugin is named after its
    class, in lower case and with ``_`` between words, unless a mapping names it. Without
    ``timeouts`` no plugin is late. Raises
    ``ConfigError`` with all problems, and ``TypeError`` for anything but a plugin::

        policy = make_policy([Doors, Rooms], config={"plugins": {"doors": {"timeout": 0.1}}})
        async with policy.serving():
            outcome = await decide(policy, make_request("service_configuration"))
    """
    context = BuildContext(log=Log(), time_limits=timeouts, wall_clock=DryRunClock())
    if isinstance(plugins, Path):
        _no_config(config, "a configuration file")
        return build_policy(load(plugins), context=context)
    under_test = _named(plugins)
    available = {name: _available(name, one) for name, one in under_test.items()}
    settings = _settings(under_test, config or {})
    if not settings.plugins.keys() <= available.keys():
        found, problems = discover(settings.plugin_dirs)
        if problems:
            raise ConfigError(settings.path, problems)
        available = {**found, **available}
    return build_policy(settings, available=available, context=context)


def _no_config(config: Config | None, what: str) -> None:
    if config is not None:
        msg = f"config goes with plugins; {what} has its own"
        raise TypeError(msg)


def _settings(under_test: Mapping[str, _PluginUnderTest], config: Config) -> Settings:
    tables: dict[str, dict[str, Any]] = {
        name: {} if one.settings is None else {"settings": dict(one.settings)}
        for name, one in under_test.items()
    }
    for name, table in config.get("plugins", {}).items():
        before = tables.setdefault(name, {})
        if "settings" in before and "settings" in table:
            msg = f"the settings of {name} are given twice: with the class, and in config"
            raise TypeError(msg)
        before.update(table)
    return from_document({**config, "plugins": tables}, Path("config.toml"), _HASH)


def _named(plugins: Subject) -> dict[str, _PluginUnderTest]:
    if isinstance(plugins, Mapping):
        return {str(name): _one(plugin) for name, plugin in plugins.items()}
    several = plugins if isinstance(plugins, list | tuple) and not _is_pair(plugins) else [plugins]
    named: dict[str, _PluginUnderTest] = {}
    for plugin in map(_one, several):
        plain = _WORD.sub("_", plugin.plugin_class.__name__).lower()
        plain = f"{plain}_plugin" if plain in RESERVED else plain
        names = (plain, *(f"{plain}_{number}" for number in range(2, len(several) + 1)))
        named[next(name for name in names if name not in named)] = plugin
    return named


def _is_pair(plugins: object) -> bool:
    if not isinstance(plugins, tuple) or len(plugins) != 2:  # noqa: PLR2004 - a pair
        return False
    return isinstance(plugins[0], type) and isinstance(plugins[1], Mapping)


def _one(plugin: object) -> _PluginUnderTest:
    if _is_pair(plugin):
        return _PluginUnderTest(*plugin)  # type: ignore[misc]
    if isinstance(plugin, type):
        return _PluginUnderTest(plugin)
    others = (str, bytes, list, tuple, Mapping, ModuleType, FunctionType, type(None))
    if isinstance(plugin, others):
        msg = (
            f"a {type(plugin).__name__} is not a plugin: pass a class, a class with its settings, "
            "an instance, several of them, or the Path of a configuration file"
        )
        raise TypeError(msg)
    return _PluginUnderTest(_class_returning(plugin))


def _class_returning(instance: object) -> type:
    """Return a class whose construction returns the instance.

    It has the names of the real class, for messages, and its hook API.
    """
    real = type(instance)
    names = ("__module__", "__qualname__", "pexpolicy_api")
    same = {name: getattr(real, name) for name in names if hasattr(real, name)}
    return type(real.__name__, (), {"__new__": lambda *_: instance, **same})


def _available(name: str, plugin: _PluginUnderTest) -> PluginSource:
    made = plugin.plugin_class
    source = f"{made.__module__}:{made.__qualname__}"
    return PluginSource(name, made.__module__, "unreleased", source, partial(_itself, made))


def _itself(plugin_class: type) -> type:
    """Return the class; as a function of a module it can be sent to a worker process."""
    return plugin_class
