"""The console renderer: audit lines as short coloured text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any

import msgspec

from pexpolicy.audit.targets import Stream
from pexpolicy.models.outcome import ADJUSTED, NOT_ANSWERED
from pexpolicy.text import is_without_colour, printable

CODES = {"dim": "2", "bold": "1", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
STYLES = {"reject": "red", "continue": "green", "redirect": "yellow"}
Part = tuple[str, str]
"""A style of ``CODES``, or none, and a text without control characters."""
SEPARATOR: Part = ("dim", "|")
"""Between texts that would run into each other."""


class Terminal(Stream):
    """Standard output that people read."""

    def write(self, lines: bytes) -> None:
        """Write lines as text, or store the rest of it; raises ``OSError``."""
        written = (line for line in lines.splitlines() if line.strip())
        super().write(b"".join(render(msgspec.json.decode(line)) for line in written))


def render(event: Mapping[str, Any]) -> bytes:
    """Render one line in colours unless NO_COLOR is set, with the local time."""
    now = datetime.now().astimezone().strftime("%H:%M:%S")
    plain = is_without_colour()
    texts = [
        f"\033[{CODES[style]}m{text}\033[0m" if style and not plain else text
        for style, text in [("dim", now), *parts(event)]
    ]
    return (" ".join(texts) + "\n").encode("utf-8", "replace")


def parts(event: Mapping[str, Any]) -> list[Part]:
    """Return a line without its time: request type, subject, action, plugin and failures.

    The line may come from a file and hold anything.
    """
    found = _call(event) if event.get("event") in ("decision", "shadow") else _other(event)
    return [(style, printable(text)) for style, text in found if text not in (None, "")]


def _call(event: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a decision, or of what a shadow would have decided."""
    yield "cyan", f"{event.get('endpoint')!s:<22}"
    request, given = _table(event.get("request")), event.get("steps")
    steps = [_table(step) for step in given] if isinstance(given, list | tuple) else []
    about = request.get("alias") or request.get("local_alias") or request.get("q")
    caller = request.get("remote_alias") or request.get("registration_alias")
    action, status = str(event.get("action")), event.get("status", HTTPStatus.OK)
    if event.get("event") == "shadow":
        asked = [f"{step.get('plugin')} {step.get('outcome')}" for step in steps]
        yield "dim", f"shadow: {', '.join(asked)}"
        name = _table(event.get("would_send")).get("name")
        if event.get("differs"):
            yield "yellow", f"differs, would {action}" + (f" with {name}" if name else "")
        else:
            yield "dim", "agrees" if event.get("differs") is False else ""
    else:
        yield "bold", f"{about or '-'} ← {caller}" if caller else about or "-"
        yield STYLES.get(action, "yellow"), action if status == HTTPStatus.OK else status
    yield "", f"by {event.get('decided_by')}" if event.get("decided_by") else ""
    yield "", f"in {event.get('environment')}" if event.get("environment") else ""
    if adjusted := [str(step.get("plugin")) for step in steps if step.get("outcome") == ADJUSTED]:
        yield "", f"adjusted by {', '.join(adjusted)}"
    yield "dim", f"{ms:.1f} ms" if isinstance(ms := event.get("ms"), float) else ""
    yield "", event.get("reason")
    for step in steps:
        if step.get("outcome") in NOT_ANSWERED:
            detail = f": {step['detail']}" if step.get("detail") else ""
            yield SEPARATOR
            yield "red", f"{step.get('plugin')} {step['outcome']}{detail}"
    warnings = event.get("warnings")
    for warning in warnings if isinstance(warnings, list | tuple) else ():
        yield SEPARATOR
        yield "yellow", warning


def _other(event: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a refusal, or of a line of another kind."""
    yield "yellow", f"{event.get('event')!s:<22}"
    if before := event.get("policy_hash_before"):
        yield "bold", f"{before} → {event.get('policy_hash')}"
    for name, style, text in (
        ("status", "red", "{}"),
        ("reason", "", "{}"),
        ("path", "bold", "{}"),
        ("peer", "", "from {}"),
        ("detail", "red", "{}"),
        ("times", "dim", "(times: {})"),
        ("author", "", "by {}"),
        ("error", "red", "{}"),
        ("covers", "dim", "line {} is signed"),
    ):
        if event.get(name):
            yield style, text.format(event[name])


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
