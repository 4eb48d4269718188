"""The logger that plugins get from ``get_logger``: the standard ``logging``, with fields."""

from __future__ import annotations

import sys
from collections.abc import Mapping, MutableMapping
from logging import getLogger
from typing import TYPE_CHECKING, Any, cast

from pexpolicy.log.structlog_import import structlog
from pexpolicy.text import brief

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger


class LogEvent:
    """The message of a record that has fields; as text ``event key=value``."""

    def __init__(self, event: object, fields: Mapping[str, object]) -> None:
        self.event = event
        self.fields = fields

    def __str__(self) -> str:
        return " ".join([str(self.event), *(f"{name}={v!r}" for name, v in self.fields.items())])


def get_logger(name: str | None = None) -> BoundLogger:
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
    return cast("BoundLogger", logger.bind())


_format = structlog.stdlib.PositionalArgumentsFormatter()


def _formatted(logger: Any, method: str, event: MutableMapping[str, Any]) -> Any:
    """Format the arguments of a message as ``logging`` does.

    Arguments that do not fit are written as they are: no hook may fail because of a log line,
    perhaps at a level that is switched on later.
    """
    try:
        return _format(logger, method, event)
    except Exception:  # noqa: BLE001 - the text of an argument may raise anything
        event["arguments"] = ", ".join(map(brief, event.pop("positional_args")))
        return event


def _as_record(
    _: Any, __: str, event: MutableMapping[str, Any]
) -> tuple[tuple[LogEvent], dict[str, Any]]:
    """Return the arguments for a method of ``logging.Logger``."""
    fields = dict(event)
    options: dict[str, Any] = {
        name: fields.pop(name) for name in ("exc_info", "stack_info") if name in fields
    }
    return (LogEvent(fields.pop("event", ""), fields),), options


PROCESSORS: tuple[Any, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.filter_by_level,
    _formatted,
    _as_record,
)
"""For loggers of structlog whose lines are to be records of ``logging``."""
