"""The audit: one JSON line for each call that was answered, written before the answer leaves."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from copy import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from pexpolicy.chain import Outcome, Step
from pexpolicy.lean import structlog
from pexpolicy.parameters import Params
from pexpolicy.policy import Answer
from pexpolicy.redaction import Redaction
from pexpolicy.terminal import readable

Render = Callable[[Any, str, Any], bytes]


class Line(msgspec.Struct, gc=False, omit_defaults=True):
    """The line of a call that the policy answered. ``ms`` is how long that took."""

    timestamp: datetime
    event: str
    decision_id: str
    endpoint: str
    peer: str | None
    request: dict[str, Any]
    steps: list[Step]
    decided_by: str
    reason: str | None
    action: str
    status: int
    sent: object
    ms: float
    config_hash: str
    warnings: tuple[str, ...] = ()
    removed: list[str] = []


class _Logger(structlog.BoundLoggerBase):
    """structlog's logger for lines that are whole: they pass the processors and nothing else."""

    def info(self, line: Any) -> Awaitable[bool] | None:
        """Render a line, and write it."""
        for render in self._processors:
            line = render(self._logger, "info", line)
        recorded: Awaitable[bool] | None = self._logger.info(line)
        return recorded


class Audit:
    """Writes the lines. One ``write`` call a line, so that several writers can share a file.

    Each method gives ``None`` once the line is written, or what to wait for until it is.
    """

    def __init__(
        self, sink: Sink, render: Render | None = None, redaction: Redaction | None = None
    ) -> None:
        self._sink = sink
        self._redaction = redaction or Redaction()
        logger = structlog.wrap_logger(
            sink,
            processors=[render or as_json],
            wrapper_class=_Logger,
            cache_logger_on_first_use=True,
        )
        self._write: Callable[[object], Awaitable[bool] | None] = logger.bind().info

    def under(self, redaction: Redaction) -> Audit:
        """The same audit, for a configuration that wants this to be left of requests and
        replies.
        """
        other = copy(self)
        other._redaction = redaction  # noqa: SLF001 - its own class
        return other

    def decision(
        self,
        params: Params,
        alias: str,
        answer: Answer,
        ms: float,
        peer: str | None,
        config_hash: str,
    ) -> Awaitable[bool] | None:
        """Write the line of a call that the policy answered."""
        outcome, reply = answer.outcome, answer.reply
        decision = outcome.decision
        facts, withheld = self._redaction.request(outcome.endpoint, params, alias)
        result, removed = self._redaction.result(outcome.endpoint, decision)
        line = Line(
            datetime.now(UTC),
            "decision",
            outcome.decision_id,
            outcome.endpoint,
            peer,
            facts,
            outcome.steps,
            outcome.decided_by,
            decision.reason,
            reply.action,
            reply.status,
            result,
            int(ms * 1000) / 1000,
            config_hash,
            decision.warnings,
        )
        if removed or withheld:
            line.removed = [*withheld, *removed]
        return self._write(line)

    def shadow(
        self, actual: Outcome, shadow: Outcome, config_hash: str, *, differs: bool | None
    ) -> None:
        """Write what a shadow plugin would have decided, and whether that differs from what was."""
        result, removed = self._redaction.result(shadow.endpoint, shadow.decision)
        line: dict[str, Any] = {
            "timestamp": datetime.now(UTC),
            "event": "shadow",
            "decision_id": actual.decision_id,
            "endpoint": actual.endpoint,
            "steps": shadow.steps,
            "decided_by": shadow.decided_by,
            "reason": shadow.decision.reason,
            "action": shadow.decision.action,
            "would_send": result,
            "differs": differs,
            "config_hash": config_hash,
        }
        if removed:
            line["removed"] = removed
        self._write(line)

    def refused(
        self, why: str, status: int, peer: str | None, config_hash: str, **facts: object
    ) -> Awaitable[bool] | None:
        """Write the line of a call that did not get as far as the policy."""
        line = {
            "timestamp": datetime.now(UTC),
            "event": "refused",
            "reason": why,
            "status": status,
            "peer": peer,
            **facts,
            "config_hash": config_hash,
        }
        return self._write(line)

    def close(self) -> None:
        """Close the file."""
        self._sink.close()


def as_json(_: Any, __: str, line: object) -> bytes:
    """A line of JSON. Text that is not valid Unicode must not lose the line: it is replaced."""
    try:
        return encode(line) + b"\n"
    except UnicodeEncodeError:
        return encode(_valid(line)) + b"\n"


def _valid(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, msgspec.Struct):
        return _valid(msgspec.structs.asdict(value))
    if isinstance(value, Mapping):
        return {_valid(key): _valid(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_valid(item) for item in value]
    return value


encode = msgspec.json.Encoder().encode


class Sink:
    """A file that lines are appended to: the logger at the end of structlog's chain."""

    def __init__(self, descriptor: int, *, owned: bool) -> None:
        self._descriptor = descriptor
        self._owned = owned
        self._failing = False

    def info(self, line: bytes) -> None:
        """Write one line. A sink that fails says so on standard error, once, and calls go on."""
        try:
            written = os.write(self._descriptor, line)
            while written < len(line):
                line = line[written:]
                written = os.write(self._descriptor, line)
            self._failing = False
        except OSError as error:
            if not self._failing:
                self._failing = True
                with suppress(OSError):
                    sys.stderr.write(f"the audit cannot be written: {error.strerror}\n")

    def close(self) -> None:
        """Close the file, unless it is standard output."""
        if self._owned:
            os.close(self._descriptor)


def open_audit(path: Path | None, redaction: Redaction | None = None) -> Audit:
    """The audit to a file, or to standard output; readable colours instead of JSON on a terminal.

    Raises ``OSError`` when the file cannot be opened.
    """
    if path is not None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return Audit(Sink(os.open(path, flags, 0o600), owned=True), None, redaction)
    sink = Sink(sys.stdout.fileno(), owned=False)
    return Audit(sink, readable if sys.stdout.isatty() else None, redaction)
