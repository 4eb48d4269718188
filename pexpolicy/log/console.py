"""Lines of the log: coloured text on a terminal, JSON elsewhere.

What is logged of plugins is in ``chain/failure_log.py``, alerts of the audit are in
``audit/journal.py``.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import orjson

from pexpolicy.log.standard_error import StandardError
from pexpolicy.log.structlog_import import structlog
from pexpolicy.text import is_without_colour, printable


class ServerLog:
    """The log of a process on its standard error; with colours and local time on a terminal."""

    def __init__(self, *, is_debugging: bool = False) -> None:
        self.is_debugging = is_debugging
        """True where every failure is logged with its full traceback."""
        self.output = StandardError(sys.stderr, self._left_out)
        processors: list[Any] = [structlog.processors.add_log_level]
        if self.output.is_terminal:
            processors += [
                structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
                plain_values,
                structlog.dev.ConsoleRenderer(colors=not is_without_colour(), sort_keys=False),
            ]
        else:
            processors += [
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(serializer=_dumps),
            ]
        # It returns the line, which is then written with its owner.
        self._render = structlog.wrap_logger(
            structlog.ReturnLogger(),
            processors=processors,
            wrapper_class=structlog.make_filtering_bound_logger("debug"),
        ).bind()

    def warning(self, event: str, **fields: object) -> None:
        """Write a warning of the server."""
        self.output.write(self._render.warning(event, **fields))

    def write(self, level: int, event: str, plugin: str, fields: Mapping[str, object]) -> None:
        """Write a line of a plugin or library; ``level`` is one of ``logging``."""
        self.output.write(self._render.log(level, event, **fields), plugin or "libraries")

    def _left_out(self, lines: Mapping[str, int]) -> str:
        text = "lines of the log were left out: standard error is too slow"
        counts = {plugin or "the server": count for plugin, count in lines.items()}
        line: str = self._render.log(logging.WARNING, text, lines=counts)
        return line


def plain_values(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace lists and tables by text, and show the traceback on lines of its own."""
    plain = {key: _plain(value) for key, value in event.items() if key not in _LINES}
    if isinstance(error := plain.get("error"), str) and error:
        # What went wrong is read first, and without quotes.
        plain["event"] = f"{plain.get('event', '')}: {plain.pop('error')}"
    for key, shown in _LINES.items():
        if key in event:
            plain[shown] = "\n".join(map(printable, str(event[key]).splitlines()))
    return plain


_LINES = {"traceback": "exception", "stack": "stack"}
"""Fields of several lines, and the names that the renderer for terminals has for them."""


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(str(_plain(inner)) for inner in value)
    if value is None or isinstance(value, int | float):
        return value
    return printable(value if isinstance(value, str) else _text(value))


def _dumps(event: Any, **_: Any) -> str:
    try:
        line = orjson.dumps(event, default=_text).decode()
    except TypeError:  # a key that is no text, a lone surrogate, a number of more than 64 bits
        line = orjson.dumps({str(key): _known(value) for key, value in event.items()}).decode()
    return line.translate(_ESCAPES)


def _known(value: object) -> object:
    known = value if isinstance(value, str) else _text(value)
    return known.encode("utf-8", "backslashreplace").decode()


def _text(value: object) -> str:
    """Return a value that JSON does not know as text; a broken ``repr`` must not lose the line."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a plugin may log any object
        return f"<{type(value).__name__}>"


_ESCAPES = {
    code: f"\\u{code:04x}"
    for code in (
        *range(0x7F, 0xA0),
        *(0x061C, 0x200E, 0x200F),
        *range(0x2028, 0x202F),
        *range(0x2066, 0x206A),
    )
}
"""Control characters and marks of text direction, which would command a terminal."""
