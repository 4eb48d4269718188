"""Capture of the standard ``logging`` of plugins and libraries into the server's log."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pexpolicy.errors import LOG_INTERVAL_S, RateLimit, describe_error, with_full_traceback
from pexpolicy.log.console import ServerLog
from pexpolicy.log.plugin_logger import PROCESSORS, LogEvent
from pexpolicy.log.structlog_import import structlog
from pexpolicy.models.hook_context import HOOK_CONTEXT, NO_HOOK
from pexpolicy.models.withheld import withheld_values

_STANDARD = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"))
"""Attributes of every record; further ones come from the argument ``extra``."""
_RESERVED = frozenset(
    (
        *("event", "level", "timestamp", "logger", "plugin", "hook", "decision_id", "error"),
        *("traceback", "self", "method_name"),
    )
)
"""Fields of the server's own, and parameters of structlog's methods; a field of a plugin with such
a name gets an underscore.
"""
_COLLECTED = frozenset(("asyncio", "concurrent.futures"))
"""Loggers of objects that are reported when they are collected, while any plugin runs."""


@dataclass(frozen=True, slots=True)
class LogLevels:
    """Levels of ``logging`` by plugin, and the plugin that a module belongs to."""

    level: int = logging.INFO
    plugins: Mapping[str, int] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=dict)
    """For lines outside of hooks, such as those of a thread that a plugin has started. That of the
    empty name is the plugin of all other modules.
    """

    @property
    def lowest(self) -> int:
        """The lowest level of all."""
        return min((self.level, *self.plugins.values()))


def level_number(name: str) -> int:
    """Return the number of ``logging`` for a level of the configuration."""
    return logging.getLevelNamesMapping()[name.upper()]


class LogHandler(logging.Handler):
    """Handler that writes records to the server's log, with the hook that was running."""

    def __init__(self, log: ServerLog) -> None:
        super().__init__()
        self._log = log
        self._levels = LogLevels()

    @cached_property
    def _tracebacks(self) -> RateLimit[tuple[str, ...]]:
        return RateLimit(0.0 if self._log.is_debugging else LOG_INTERVAL_S)

    def handle(self, record: logging.LogRecord) -> bool:
        """Write without a lock: ``emit`` is thread-safe, and no hook must wait for a thread."""
        # From Python 3.12 on, a filter may return another record.
        admitted: Any = self.filter(record)
        if admitted:
            try:
                self.emit(admitted if isinstance(admitted, logging.LogRecord) else record)
            except Exception:  # noqa: BLE001 - a line must not fail the hook that logs it
                self.handleError(record)
        return bool(admitted)

    def use(self, levels: LogLevels) -> None:
        """Apply the levels of a configuration."""
        self._levels = levels
        logging.getLogger().setLevel(levels.lowest)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        levels = self._levels
        context = NO_HOOK if record.name in _COLLECTED else HOOK_CONTEXT.get()
        (plugin, hook), request = context
        plugin = plugin or _owner(record.name, levels.modules)
        if record.levelno < levels.plugins.get(plugin, levels.level):
            return
        decision_id = request.decision_id if request is not None else ""
        bound = {"plugin": plugin, "hook": hook, "decision_id": decision_id}
        fields: dict[str, object] = {name: value for name, value in bound.items() if value}
        fields["logger"] = record.name
        event = _event(record, fields)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            secrets = withheld_values(request) if request is not None else ()
            report = describe_error(error, secrets)
            if self._log.is_debugging:
                report = with_full_traceback(report, error, secrets)
            fields["error"] = report.summary
            key = plugin, record.name, report.kind, report.place
            times = self._tracebacks.admit(key, time.monotonic())
            if times and report.lines:
                fields["traceback"] = report.traceback
            if times > 1:
                fields["times"] = times
        if record.stack_info:
            fields["stack"] = record.stack_info
        self._log.write(record.levelno, event, plugin, fields)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - its name in the library
        """Log that a line could not be written, such as one with a list that holds itself."""
        error = describe_error(sys.exception() or RuntimeError()).summary
        self._log.warning("a line could not be logged", logger=record.name, error=error)


def _event(record: logging.LogRecord, fields: dict[str, object]) -> str:
    """Return the text of a record, and add its own fields to ``fields``."""
    message, own = record.msg, _extra(record)
    if isinstance(message, LogEvent):
        own |= message.fields
    for name, value in own.items():
        fields[f"{name}_" if name in _RESERVED else str(name)] = value
    try:
        return str(message.event) if isinstance(message, LogEvent) else record.getMessage()
    except Exception as error:  # noqa: BLE001 - arguments do not fit the text, or their repr raises
        fields["error"] = f"its arguments cannot be formatted: {describe_error(error).summary}"
        return str(message) if isinstance(message, str) else f"<{type(message).__name__}>"


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _owner(logger: str, modules: Mapping[str, str]) -> str:
    """Return the plugin of a logger that is named after a module, or nothing."""
    while logger:
        if (plugin := modules.get(logger)) is not None:
            return plugin
        logger = logger.rpartition(".")[0]
    return modules.get("", "")


@contextmanager
def capturing(log: ServerLog) -> Iterator[LogHandler]:
    """Write the records of ``logging``, of structlog and of warnings to a log until exit.

    Also the exceptions that end a thread.
    """
    root, handler = logging.getLogger(), LogHandler(log)
    level, excepthook = root.level, threading.excepthook
    root.addHandler(handler)
    handler.use(LogLevels())
    logging.captureWarnings(capture=True)
    threading.excepthook = _log_thread
    configures = not structlog.is_configured()
    if configures:
        structlog.configure(
            processors=PROCESSORS,
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
        )
    try:
        yield handler
    finally:
        if configures:
            structlog.reset_defaults()
        threading.excepthook = excepthook
        logging.captureWarnings(capture=False)
        root.removeHandler(handler)
        root.setLevel(level)


def _log_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is None or issubclass(ended.exc_type, SystemExit):
        return
    name = ended.thread.name if ended.thread is not None else "unknown"
    logging.getLogger("threading").error("the thread %s ended", name, exc_info=ended.exc_value)
