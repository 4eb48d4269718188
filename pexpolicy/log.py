"""The log beside the audit: faults of plugins and of the server, on standard error."""

from __future__ import annotations

import sys
from typing import Any

import orjson
import structlog

from pexpolicy.errors import Log


def console_log() -> Log:
    """Colours on a terminal, JSON elsewhere."""
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if sys.stderr.isatty():
        processors.append(structlog.dev.ConsoleRenderer())
    else:
        processors.append(structlog.processors.JSONRenderer(serializer=_dumps))
    log: Log = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger("info"),
    ).bind()
    return log


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
