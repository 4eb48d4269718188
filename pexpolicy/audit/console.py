"""The console renderer: audit lines as short coloured text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any

import msgspec

from pexpolicy.models.outcome import ADJUSTED
from pexpolicy.text import is_without_colour, printable

CODES = {"dim": "2", "bold": "1", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
STYLES = {"reject": "red", "continue": "green", "redirect": "yellow"}
FAILURES = ("failed", "timed_out", "invalid", "busy", "skipped")
WIDTH = 22
"""Of the first column: the longest name of a request type."""
MAX_MS = 1e12
"""A longer time is not shown: the line may hold anything."""

Part = tuple[str, str]
"""A style of ``CODES``, or none, and a text without control characters."""
SEPARATOR: Part = ("dim", "|")
"""Between texts that would run into each other."""
_Step = tuple[str, str, str]
"""Plugin, outcome and detail of a step."""


def render(line: Any) -> bytes:
    """Render one line in colours unless NO_COLOR is set, with the local time."""
    event = msgspec.structs.asdict(line) if isinstance(line, msgspec.Struct) else line
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
    kinds = {"decision": _decision, "shadow": _shadow}
    kind = kinds.get(str(event.get("event")), _other)
    steps = [*_steps(event)]
    found = [*kind(event, steps)]
    remarks = [
        ("red", f"{plugin} {outcome}" + (f": {detail}" if detail else ""))
        for plugin, outcome, detail in steps
        if outcome in FAILURES
    ]
    if isinstance(warnings := event.get("warnings"), list | tuple):
        remarks += [("yellow", warning) for warning in warnings]
    for number, remark in enumerate(remarks):
        found += [remark] if number == 0 and kind is _shadow else [SEPARATOR, remark]
    return [(style, printable(text)) for style, text in found if text is not None and text != ""]


def _decision(event: Mapping[str, Any], steps: Sequence[_Step]) -> Iterator[tuple[str, Any]]:
    action, status, ms = str(event.get("action")), event.get("status"), event.get("ms")
    yield "cyan", f"{event.get('endpoint')!s:<{WIDTH}}"
    request = _table(event.get("request"))
    about = request.get("alias") or request.get("local_alias") or request.get("q") or "-"
    caller = request.get("remote_alias") or request.get("registration_alias")
    yield "bold", f"{about} ← {caller}" if caller else str(about)
    if status == HTTPStatus.OK:
        yield STYLES.get(action, "yellow"), action
    else:
        yield "yellow", status
    yield "", f"by {event.get('decided_by')}"
    if adjusted := [plugin for plugin, outcome, _ in steps if outcome == ADJUSTED]:
        yield "", f"adjusted by {', '.join(adjusted)}"
    yield "dim", f"{ms:.1f} ms" if isinstance(ms, int | float) and 0 <= ms < MAX_MS else ""
    yield "", event.get("reason")


def _shadow(event: Mapping[str, Any], steps: Sequence[_Step]) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a shadow decision; what it would have sent only if it differs."""
    yield "dim", f"{event.get('endpoint')!s:<{WIDTH}}"
    asked = [f"{plugin} {outcome}" for plugin, outcome, _ in steps if outcome not in FAILURES]
    yield "dim", f"shadow: {', '.join(asked)}{':' * bool(asked)}".rstrip()
    if event.get("differs") is False:
        yield "dim", "agrees"
    elif event.get("differs"):
        sent = _table(event.get("would_send"))
        name = sent.get("name") or sent.get("location")
        would = f"differs, would {event.get('action')}" + (f" with {name}" if name else "")
        yield "yellow", would + (f": {event['reason']}" if event.get("reason") else "")


def _other(event: Mapping[str, Any], _: Sequence[_Step]) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a refusal, or of a line of another kind."""
    yield "yellow", f"{event.get('event')!s:<{WIDTH}}"
    yield "red", None if event.get("status") is None else str(event["status"] or "-")
    yield "", event.get("reason")
    yield "bold", event.get("path") or event.get("endpoint")
    for name, style, text in (
        ("peer", "", "from {}"),
        ("detail", "red", "{}"),
        ("times", "dim", "(times: {})"),
        ("covers", "dim", "line {} is signed"),
    ):
        if event.get(name):
            yield style, text.format(event[name])


def _steps(event: Mapping[str, Any]) -> Iterator[_Step]:
    steps = event.get("steps")
    for given in steps if isinstance(steps, list | tuple) else ():
        step = msgspec.structs.asdict(given) if isinstance(given, msgspec.Struct) else _table(given)
        yield str(step.get("plugin")), str(step.get("outcome")), str(step.get("detail") or "")


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
