"""The audit: one JSON line for each call that was answered, written before the answer leaves."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from pexpolicy.chain import Outcome
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import Reply
from pexpolicy.lean import structlog
from pexpolicy.parameters import Params
from pexpolicy.redaction import LoggedParameters, sent
from pexpolicy.terminal import readable

Render = Callable[[Any, str, Any], bytes]


class Audit:
    """Writes the lines. One ``write`` call a line, so that several writers can share a file."""

    def __init__(self, sink: Sink, config_hash: str, render: Render | None = None) -> None:
        self._sink = sink
        self._config_hash = config_hash
        self._logged = {name: LoggedParameters(e.request) for name, e in ENDPOINTS.items()}
        self._log = structlog.wrap_logger(
            sink,
            processors=[render or as_json],
            wrapper_class=structlog.make_filtering_bound_logger("info"),
            cache_logger_on_first_use=True,
        ).bind()

    def decision(
        self,
        params: Params,
        alias: str,
        outcome: Outcome,
        reply: Reply,
        seconds: float,
        peer: str | None,
    ) -> None:
        """Write the line of a call that the policy answered."""
        facts, withheld = self._logged[outcome.endpoint].of(params)
        if alias:
            facts["alias"] = alias
        result, removed = sent(ENDPOINTS[outcome.endpoint], outcome.decision)
        line: dict[str, Any] = {
            "timestamp": datetime.now(UTC),
            "event": "decision",
            "decision_id": outcome.decision_id,
            "endpoint": outcome.endpoint,
            "peer": peer,
            "request": facts,
            "steps": outcome.steps,
            "decided_by": outcome.decided_by,
            "reason": outcome.decision.reason,
            "action": reply.action,
            "status": reply.status,
            "sent": result,
            "ms": round(seconds * 1000, 3),
            "config_hash": self._config_hash,
        }
        if outcome.decision.warnings:
            line["warnings"] = outcome.decision.warnings
        if removed or withheld:
            line["removed"] = [*withheld, *removed]
        self._log.info("decision", line=line)

    def shadow(self, actual: Outcome, shadow: Outcome, *, differs: bool | None) -> None:
        """Write what a shadow plugin would have decided, and whether that differs from what was."""
        result, removed = sent(ENDPOINTS[shadow.endpoint], shadow.decision)
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
            "config_hash": self._config_hash,
        }
        if removed:
            line["removed"] = removed
        self._log.info("shadow", line=line)

    def refused(self, why: str, status: int, peer: str | None, **facts: object) -> None:
        """Write the line of a call that did not get as far as the policy."""
        line = {
            "timestamp": datetime.now(UTC),
            "event": "refused",
            "reason": why,
            "status": status,
            "peer": peer,
            **facts,
            "config_hash": self._config_hash,
        }
        self._log.info("refused", line=line)

    def close(self) -> None:
        """Close the file."""
        self._sink.close()


def as_json(_: Any, __: str, event: Mapping[str, Any]) -> bytes:
    """A line of JSON. Text that is not valid Unicode must not lose the line: it is replaced."""
    line = event["line"]
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


def open_audit(path: Path | None, config_hash: str) -> Audit:
    """The audit to a file, or to standard output; readable colours instead of JSON on a terminal.

    Raises ``OSError`` when the file cannot be opened.
    """
    if path is not None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return Audit(Sink(os.open(path, flags, 0o600), owned=True), config_hash)
    sink = Sink(sys.stdout.fileno(), owned=False)
    return Audit(sink, config_hash, readable if sys.stdout.isatty() else None)
