"""The console renderer: audit lines as short coloured text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from typing import Any

import msgspec

from pexpolicy.audit.targets import Stream
from pexpolicy.models.outcome import ABSTAINED, ADJUSTED, DECIDED
from pexpolicy.text import is_without_colour, printable

CODES = {"dim": "2", "bold": "1", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
STYLES = {"reject": "red", "continue": "green", ADJUSTED: "yellow"}
Part = tuple[str, str]
"""A style of ``CODES``, or none, and a text without control characters."""
_CHAIN = "boot_id seq hash prev after previous_file instance head signature"
_NOT_SHOWN = {"timestamp", "event", *_CHAIN.split()}


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
    """Return a line without its time: that of a call in short, others by names and values.

    The line may come from a file and hold anything.
    """
    found: Iterable[tuple[str, Any]] = [
        ("yellow", f"{event.get('event')!s:<22}"),
        *(("", f"{name}={value}") for name, value in event.items() if name not in _NOT_SHOWN),
    ]
    if event.get("event") in ("decision", "shadow"):
        with suppress(Exception):
            found = [*_call(event)]
    return [(style, printable(text)) for style, text in found if text]


def _call(event: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a decision, or of what a shadow would have decided."""
    yield "cyan", f"{event['endpoint']:<22}"
    action, status = event["action"], event.get("status", HTTPStatus.OK)
    if event["event"] == "shadow":
        yield "yellow", "differs, would" if event["differs"] else "shadow, would"
    else:
        request = event["request"]
        about = request.get("alias") or request.get("local_alias") or request.get("q", "-")
        caller = request.get("remote_alias") or request.get("registration_alias")
        yield "bold", f"{about} ← {caller}" if caller else about
    yield STYLES.get(action, "yellow"), action if status == HTTPStatus.OK else status
    yield "", f"by {event['decided_by']}"
    yield "", f"in {event['environment']}" if "environment" in event else ""
    yield "dim", f"{event['ms']:.1f} ms" if "ms" in event else ""
    yield "", event["reason"]
    for step in event["steps"]:
        if (outcome := step["outcome"]) not in (ABSTAINED, DECIDED):
            detail = f": {step['detail']}" if "detail" in step else ""
            yield STYLES.get(outcome, "red"), f"| {step['plugin']} {outcome}{detail}"
    for warning in event.get("warnings", ()):
        yield "yellow", f"| {warning}"
