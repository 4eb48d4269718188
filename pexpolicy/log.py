"""The log of a process: lines of the server, of plugins and of libraries on standard error."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import select
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from logging import getLogger
from queue import SimpleQueue
from typing import Any, NamedTuple, TextIO, cast

from pexpolicy.errors import LOG_INTERVAL_S, RateLimit, describe_error, full_traceback
from pexpolicy.models.context import HOOK_CONTEXT, NO_HOOK
from pexpolicy.models.request import withheld_values
from pexpolicy.text import (
    brief,
    escape_controls,
    is_without_colour,
    printable,
    printable_lines,
)

# structlog imports rich for tracebacks that are never printed: a third of the start-up time.
# None is the documented way to mark a module as missing.
_is_hidden = sys.modules.setdefault("rich", None) is None  # type: ignore[arg-type]
import structlog  # noqa: E402

if _is_hidden:
    del sys.modules["rich"]

MAX_PENDING = 4 * 1024 * 1024
"""Bytes that may wait for a slow reader. Further lines of plugins are left out and counted."""
RESERVED = 256 * 1024
"""Bytes in addition to ``MAX_PENDING``, for lines of the server itself."""
STOP_TIMEOUT_S = 1.0
"""Time for the lines that wait when the server stops."""


class StandardError:
    """Lines to a stream: written at once, or inside ``background()`` by a thread. Thread-safe.

    A line is written whole, also where several processes write to the same pipe. ``report`` makes
    the line about lines that were left out, counted by plugin.
    """

    def __init__(self, stream: TextIO, report: Callable[[Mapping[str, int]], str]) -> None:
        self._stream, self._report = stream, report
        self.is_terminal = stream.isatty()
        self._descriptor: int | None = None
        with suppress(OSError, ValueError):
            self._descriptor = stream.fileno()
        self._may_wait = True
        self._thread: threading.Thread | None = None
        # Reentrant: a destructor or signal handler may log as well.
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._pending = 0
        """Bytes in the queue; without a lock, about so many until it is empty."""
        self._left_out: Counter[str] = Counter()

    def write(self, line: str, plugin: str = "") -> None:
        """Write one line; ``plugin`` is whose line it is, empty for the server's own."""
        content = line.encode("utf-8", "replace") + b"\n"
        # A process that a plugin forked has no such thread.
        is_queued = self._thread is not None and self._thread.is_alive()
        if is_queued and self._pending < MAX_PENDING + RESERVED * (not plugin):
            self._pending += len(content)
            self._queue.put(content)
        elif not is_queued and (self._may_wait or self._is_writable()):
            self._write(content)
        else:
            self._left_out[plugin] += 1

    def _write(self, content: bytes) -> None:
        if self._left_out and self._queue.empty():
            left_out, self._left_out = self._left_out, Counter()
            content = self._report(left_out).encode("utf-8", "replace") + b"\n" + content
        # A plugin may have closed standard error.
        with suppress(OSError, ValueError):
            if self._descriptor is None:
                self._stream.write(content.decode())
            self._stream.flush()
            if self._descriptor is not None:
                _write_all(self._descriptor, content)

    def _is_writable(self) -> bool:
        with suppress(OSError, ValueError):
            return self._descriptor is None or any(select.select((), (self._descriptor,), (), 0))
        return False

    def never_wait(self) -> None:
        """Leave out lines while the reader has stalled; for a process without threads."""
        self._may_wait = False

    @contextmanager
    def background(self) -> Iterator[None]:
        """Write in a thread until exit, and wait at most ``STOP_TIMEOUT_S`` for the last lines."""
        # A daemon: where the reader has stalled, the process must end all the same.
        self._thread = threading.Thread(target=self._run, name="pexpolicy-log", daemon=True)
        self._thread.start()
        try:
            yield
        finally:
            self.flush()
            if self._thread.is_alive():
                self.never_wait()
            else:
                self._queue.put(None)
                self._run()
            self._thread = None

    def flush(self) -> None:
        """Wait up to ``STOP_TIMEOUT_S`` until the thread has written all lines, and end it."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        while (content := self._queue.get()) is not None:
            self._write(content)
            self._pending = 0 if self._queue.empty() else self._pending - len(content)
        if self._left_out:
            self._write(b"")


def _write_all(descriptor: int, content: bytes) -> None:
    # Other processes of the server wait: a pipe takes long lines in pieces.
    with suppress(OSError):
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
    try:
        while content:
            try:
                content = content[os.write(descriptor, content) :]
            except BlockingIOError:  # another process has made the pipe non-blocking
                select.select((), (descriptor,), ())
    finally:
        with suppress(OSError):
            fcntl.lockf(descriptor, fcntl.LOCK_UN)


class LogEvent(NamedTuple):
    """The message of a record that has fields; as text ``event key=value``."""

    event: object
    fields: Mapping[str, object]

    def __str__(self) -> str:
        return " ".join([str(self.event), *(f"{name}={v!r}" for name, v in self.fields.items())])


def get_logger(name: str | None = None) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module, by default of the module that calls this.

    Its lines are records of the standard ``logging``, so that pytest's ``caplog`` and other tools
    see them. In a server each line has time, level, ``plugin``, ``hook`` and ``decision_id``::

        log = get_logger()
        log.info("directory renewed", entries=12)
    """
    module = name or sys._getframe(1).f_globals.get("__name__", "plugin")  # noqa: SLF001 - as structlog does
    logger = structlog.wrap_logger(
        getLogger(module), processors=PROCESSORS, wrapper_class=structlog.stdlib.BoundLogger
    )
    return cast("structlog.stdlib.BoundLogger", logger.bind())


def _as_record(
    _: Any, __: str, event: MutableMapping[str, Any]
) -> tuple[tuple[LogEvent], dict[str, Any]]:
    """Return the arguments for a method of ``logging.Logger``.

    Arguments that do not fit the text are written as they are: no hook may fail because of a line.
    """
    fields = dict(event)
    options = {name: fields.pop(name, None) for name in ("exc_info", "stack_info")}
    text, arguments = fields.pop("event", ""), fields.pop("positional_args", ())
    try:
        text = str(text) % arguments if arguments else text
    except Exception:  # noqa: BLE001 - the text of an argument may raise anything
        fields["arguments"] = ", ".join(map(brief, arguments))
    return (LogEvent(text, fields),), options


PROCESSORS: tuple[Any, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.filter_by_level,
    _as_record,
)
"""For loggers of structlog whose lines are to be records of ``logging``."""


class ServerLog:
    """The log of a process on its standard error; with colours and local time on a terminal."""

    def __init__(self, *, is_debugging: bool = False) -> None:
        self.is_debugging = is_debugging
        """True where every failure is logged with its full traceback."""
        self.output = StandardError(sys.stderr, self._left_out)
        self._renderer = structlog.dev.ConsoleRenderer(
            colors=not is_without_colour(), sort_keys=False
        )

    def warning(self, event: str, **fields: object) -> None:
        """Write a warning of the server."""
        self.output.write(self._line(logging.WARNING, event, fields))

    def write(self, level: int, event: str, plugin: str, fields: Mapping[str, object]) -> None:
        """Write a line of a plugin or library; ``level`` is one of ``logging``."""
        self.output.write(self._line(level, event, fields), plugin or "libraries")

    def _left_out(self, lines: Mapping[str, int]) -> str:
        text = "lines of the log were left out: standard error is too slow"
        counts = {plugin or "the server": count for plugin, count in lines.items()}
        return self._line(logging.WARNING, text, {"lines": counts})

    def _line(self, level: int, event: str, fields: Mapping[str, object]) -> str:
        values = {**fields, "event": event, "level": logging.getLevelName(level).lower()}
        if self.output.is_terminal:
            plain = plain_values({**values, "timestamp": time.strftime("%H:%M:%S")})
            return str(self._renderer(None, "", plain))
        values["timestamp"] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        line = json.dumps(values, default=_text, ensure_ascii=False, skipkeys=True)
        return escape_controls(line)


def plain_values(values: Mapping[str, object]) -> dict[str, object]:
    """Escape what would command a terminal, and show the traceback on lines of its own."""
    plain: dict[str, object] = {key: printable(_text(value)) for key, value in values.items()}
    if error := plain.pop("error", ""):
        # What went wrong is read first, and without quotes.
        plain["event"] = f"{plain.get('event', '')}: {error}"
    # The renderer has these names for fields of several lines.
    for key, shown in (("traceback", "exception"), ("stack", "stack")):
        if plain.pop(key, ""):
            plain[shown] = printable_lines(str(values[key]).rstrip())
    return plain


def _text(value: object) -> str:
    """Return a value that JSON does not know as text; a broken one must not lose the line."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a plugin may log any object
        return f"<{type(value).__name__}>"


_STANDARD = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"))
"""Attributes of every record; further ones come from the argument ``extra``."""
_RESERVED = frozenset(
    (
        *("event", "level", "timestamp", "logger", "plugin", "hook"),
        *("decision_id", "error", "traceback"),
    )
)
"""Fields of the server's own; a field of a plugin with such a name gets an underscore."""
_COLLECTED = frozenset(("asyncio", "concurrent.futures"))
"""Loggers of objects that are reported when they are collected, while any plugin runs."""


class LogLevels(NamedTuple):
    """Levels of ``logging`` by plugin, and the plugin that a module belongs to."""

    level: int = logging.INFO
    plugins: Mapping[str, int] = {}
    modules: Mapping[str, str] = {}
    """For lines outside of hooks, such as those of a thread that a plugin has started. That of the
    empty name is the plugin of all other modules.
    """


def level_number(name: str) -> int:
    """Return the number of ``logging`` for a level of the configuration."""
    return logging.getLevelNamesMapping()[name.upper()]


class LogHandler(logging.Handler):
    """Handler that writes records to the server's log, with the hook that was running."""

    def __init__(self, log: ServerLog) -> None:
        super().__init__()
        self._log = log
        self._levels = LogLevels()
        interval = 0.0 if log.is_debugging else LOG_INTERVAL_S
        self._tracebacks = RateLimit(interval)

    def use(self, levels: LogLevels) -> None:
        """Apply the levels of a configuration."""
        self._levels = levels
        logging.getLogger().setLevel(min((levels.level, *levels.plugins.values())))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            self._write(record)
        except Exception as error:  # noqa: BLE001 - a line must not fail the hook that logs it
            text = describe_error(error).summary
            self._log.warning("a line could not be logged", logger=record.name, error=text)

    def _write(self, record: logging.LogRecord) -> None:
        levels = self._levels
        (plugin, hook), request = NO_HOOK if record.name in _COLLECTED else HOOK_CONTEXT.get()
        plugin = plugin or _owner(record.name, levels.modules)
        if record.levelno < levels.plugins.get(plugin, levels.level):
            return
        decision_id = request.decision_id if request is not None else ""
        bound = {"plugin": plugin, "hook": hook, "decision_id": decision_id, "logger": record.name}
        fields: dict[str, object] = {name: value for name, value in bound.items() if value}
        event = _event(record, fields)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            secrets = withheld_values(request) if request is not None else ()
            report = describe_error(error, secrets)
            if self._log.is_debugging:
                report = replace(report, lines=full_traceback(error, secrets))
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


def _event(record: logging.LogRecord, fields: dict[str, object]) -> str:
    """Return the text of a record, and add its own fields to ``fields``."""
    message: Any = record.msg
    own = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    if isinstance(message, LogEvent):
        message, own = message.event, own | dict(message.fields)
    fields |= {f"{name}_" if name in _RESERVED else str(name): own[name] for name in own}
    try:
        return str(message) % record.args if record.args else str(message)
    except Exception as error:  # noqa: BLE001 - arguments do not fit the text, or their repr raises
        fields["error"] = f"its arguments cannot be formatted: {describe_error(error).summary}"
        return _text(message)


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
