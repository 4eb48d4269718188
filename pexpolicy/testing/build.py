"""Policies of plugin classes and instances, built as in a server, and calls without HTTP."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

from uuid_utils import uuid7

from pexpolicy.audit.audit_log import AuditLog
from pexpolicy.audit.records import with_audit_line
from pexpolicy.audit.redaction import redaction_of
from pexpolicy.audit.sinks import JournalSink
from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document, load
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.models.context import DryRunClock, at_time, seconds_of
from pexpolicy.models.outcome import Outcome
from pexpolicy.models.request import CallFacts, Request, clear_annotations
from pexpolicy.plugins.discovery import RESERVED, PluginSource, discover, resembles_plugin
from pexpolicy.plugins.plugin import settings_class
from pexpolicy.policy import BuildContext, Policy
from pexpolicy.testing.requests import endpoint_of

Config = Mapping[str, Any]
Subject = object
"""What to test: a plugin class; a pair of a class and its settings; an instance; several of them in
a list, or in a mapping by name; the ``Path`` of a configuration file; or a serving ``Policy``."""

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


_PluginUnderTest = tuple[type, Mapping[str, Any] | None]
"""A plugin class, and its settings if there are any."""


class Log:
    """Log of plugin failures to the standard ``logging``, which pytest shows for a failed test."""

    def warning(self, event: str, **fields: object) -> None:
        """Write one warning, each field on a line of its own."""
        lines = [f"  {name}: {value}" for name, value in fields.items()]
        logging.getLogger("pexpolicy").warning("%s", "\n".join([event, *lines]))


class EnvironmentClock(DryRunClock):
    """The clock of what is tested: the time it is set to, else that of ``PEXPOLICY_TEST_CLOCK``.

    The variable has a time as in RFC 3339, seconds since 1970, or the path of a file with either,
    which may change meanwhile. Without it the clock is that of the machine.
    """

    def __call__(self) -> float:
        """Return seconds since 1970; raises ``ValueError`` for a variable with anything else."""
        written = os.environ.get("PEXPOLICY_TEST_CLOCK")
        if self.at is not None or not written:
            return super().__call__()
        text = (Path(written).read_text("ascii") if "/" in written else written).strip()
        is_number = re.fullmatch(r"\d+(\.\d+)?", text)
        return float(text) if is_number else datetime.fromisoformat(text).timestamp()


@asynccontextmanager
async def opened(
    subject: Subject,
    config: Config | None = None,
    *,
    timeouts: bool = True,
    at: datetime | None = None,
) -> AsyncIterator[Policy]:
    """Yield a policy that serves, at a time; one that was built here is closed at the end."""
    if isinstance(subject, Policy):
        if config is not None or not timeouts:
            raise TypeError("a policy has its own config and timeouts: hand them to make_policy")
        with at_time(subject.context.wall_clock, at):
            yield subject
    else:
        policy = make_policy(subject, config=config, timeouts=timeouts, at=at)
        async with policy.serving():
            yield policy


def make_policy(
    plugins: Subject,
    *,
    config: Config | None = None,
    timeouts: bool = True,
    at: datetime | None = None,
) -> Policy:
    """Build the policy of these plugins, which are asked in the given order.

    ``config`` is the rest of the configuration file: other tables, and the
    ``priority``, ``timeout`` (seconds) or ``on_error`` of a plugin. A plugin is named after its
    class, in lower case and with ``_`` between words, unless a mapping names it. Without
    ``timeouts`` no plugin is late. ``at`` is the time that ``wall_clock()`` and conditions see,
    with a zone. Raises ``ConfigError`` with all problems, and ``TypeError`` for anything but a
    plugin::

        policy = make_policy([Doors, Rooms], config={"plugins": {"doors": {"timeout": 0.1}}})
        async with policy.serving():
            outcome = await decide(policy, make_request("service_configuration"))
    """
    clock = EnvironmentClock(seconds_of(at))
    context = BuildContext(log=Log(), time_limits=timeouts, wall_clock=clock, state_in_memory=True)
    if isinstance(plugins, Path):
        if config is not None:
            raise TypeError("config goes with plugins; a configuration file has its own")
        return build_policy(load(plugins), context=context)
    under_test = _named(plugins)
    available = {name: _available(name, made) for name, (made, _) in under_test.items()}
    settings = _settings(under_test, config or {})
    if not settings.plugins.keys() <= available.keys():
        found, problems = discover(settings.plugin_folders)
        if problems:
            raise ConfigError(settings.path, problems)
        available = {**found, **available}
    return build_policy(settings, available=available, context=context)


def _settings(under_test: Mapping[str, _PluginUnderTest], config: Config) -> Settings:
    tables: dict[str, dict[str, Any]] = {
        name: {} if given is None else {"settings": dict(given)}
        for name, (_, given) in under_test.items()
    }
    for name, table in config.get("plugins", {}).items():
        before = tables.setdefault(name, {})
        if before.keys() & table.keys():
            msg = f"the settings of {name} are given twice: with the class, and in config"
            raise TypeError(msg)
        before.update(table)
    return from_document({**config, "plugins": tables}, Path("config.toml"))


def _named(plugins: Subject) -> dict[str, _PluginUnderTest]:
    if isinstance(plugins, Mapping):
        return {str(name): _one(plugin) for name, plugin in plugins.items()}
    several = plugins if isinstance(plugins, list | tuple) and not _is_pair(plugins) else [plugins]
    named: dict[str, _PluginUnderTest] = {}
    for plugin in map(_one, several):
        plain = _WORD.sub("_", plugin[0].__name__).lower()
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
        return cast("_PluginUnderTest", plugin)
    if isinstance(plugin, type):
        return plugin, None
    if not resembles_plugin(type(plugin)):
        raise TypeError(
            f"a {type(plugin).__name__} is not a plugin: pass a class, a class with its settings, "
            "an instance, several of them, or the Path of a configuration file"
        )
    return _class_returning(plugin), None


def _class_returning(instance: object) -> type:
    """Return a class whose construction checks the settings class, and returns the instance.

    It has the names of the real class, for messages, and its hook API.
    """
    real = type(instance)
    names = ("__module__", "__qualname__", "pexpolicy_api")
    same = {name: getattr(real, name) for name in names if hasattr(real, name)}

    def checked(*_: object) -> object:
        settings_class(real.__name__, real)
        return instance

    return type(real.__name__, (), {"__new__": checked, **same})


def _available(name: str, made: type) -> PluginSource:
    source = f"{made.__module__}:{made.__qualname__}"
    return PluginSource(name, made.__module__, "unreleased", source, partial(_itself, made))


def _itself(plugin_class: type) -> type:
    """Return the class; as a function of a module it can be sent to a worker process."""
    return plugin_class


Line = dict[str, Any]

# Not a context variable: the tasks of a server that is already open would not see the change.
_listeners: dict[int, list[Line]] = {}


class _CapturingSink(JournalSink):
    """Audit sink that passes each line to the active ``capture_audit`` blocks."""

    def __init__(self) -> None:
        super().__init__(cast("Any", None))  # it has no journal

    def record(self, line: bytes) -> None:
        """Hand one line to every listener."""
        for lines in _listeners.values():
            lines.append(json.loads(line))


@contextmanager
def capture_audit() -> Iterator[list[Line]]:
    """Collect the audit lines of the calls that ``decide`` and ``client`` make, as dictionaries.

    They are those of a server, with secrets removed::

        with capture_audit() as lines:
            decide_sync(Doors, make_request("service_configuration"))
        assert lines[0]["decided_by"] == "doors"
    """
    lines: list[Line] = []
    _listeners[id(lines)] = lines
    try:
        yield lines
    finally:
        del _listeners[id(lines)]


def capturing_audit_log(settings: Settings) -> AuditLog:
    """Return an audit log with the ``[privacy]`` of a configuration; ``capture_audit`` collects
    its lines.
    """
    return AuditLog(_CapturingSink(), redaction=redaction_of(settings))


async def asked(policy: Policy, request: Request, audit: AuditLog) -> Outcome:
    """Return the outcome of a serving policy for a request, and write its audit line."""
    endpoint_of(request)  # raises TypeError for anything but a request
    clear_annotations(request)
    answer = await policy.answer(request, str(uuid7()))
    line = audit.record(CallFacts(policy_hash=policy.policy_hash), answer)
    audit.write(line)
    return with_audit_line(answer.outcome, line) if policy.observers else answer.outcome
