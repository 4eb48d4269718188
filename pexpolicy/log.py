"""The log of plugin and server failures, on standard error.

What is logged of plugins is in ``chain/failure_log.py``, alerts of the audit are in
``audit/journal.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import orjson
import structlog

from pexpolicy.errors import Log


def console_log() -> Log:
    """Return a log with colours and local time on a terminal, and with JSON elsewhere."""
    processors: list[Any] = [structlog.processors.add_log_level]
    if sys.stderr.isatty():
        processors += [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            plain_values,
            structlog.dev.ConsoleRenderer(),
        ]
    else:
        processors += [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=_dumps),
        ]
    log: Log = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger("info"),
    ).bind()
    return log


def plain_values(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace lists and tables by text, and show the traceback on lines of its own."""
    plain = {key: _plain(value) for key, value in event.items()}
    if "traceback" in plain:
        plain["exception"] = plain.pop("traceback")
    return plain


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(str(_plain(inner)) for inner in value)
    return value


def _dumps(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=repr).decode().translate(_ESCAPES)


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
