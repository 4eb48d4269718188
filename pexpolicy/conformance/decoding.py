"""Whether a server decoded a request once: seen in what it repeats of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pexpolicy.conformance.findings import Finding, SentRequest, Topic, violation
from pexpolicy.models.rules import Confidence


def wrongly_decoded(asked: SentRequest, body: Any) -> list[Finding]:
    """A finding for the first text in the reply that only a wrong decoding can have made."""
    if not asked.traces:
        return []
    for text in _texts(body):
        folded = text.casefold()
        for trace in asked.traces:
            if trace.text.casefold() in folded:
                what = f"a text of the request comes back as …{trace.text}…: {trace.why}"
                return [violation(Topic.DECODING, what, Confidence.DOCUMENTED)]
    return []


def _texts(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str(text):
                yield text
            case dict(inner):
                yield from inner
                waiting += inner.values()
            case list(items):
                waiting += items
            case _:
                pass
