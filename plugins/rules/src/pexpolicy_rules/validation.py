"""Validation of decisions before any call, with every problem and not only the first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pexpolicy import DecisionError, Key
from pexpolicy_rules.placeholders import sampled

SAMPLES = (
    "1234",
    "a@example.com",
    "sip:a@example.com",
    "00000000-0000-4000-8000-000000000000",
    "guest",
    "1",
)
"""Texts of which one has to fit where a placeholder stands."""
MAX_MISSING = 5
"""Fields that are required, of which each is named."""


class AnswerError(ValueError):
    """A rule cannot decide so at an endpoint; ``faults`` holds each reason with its key below
    ``then``.
    """

    def __init__(self, text: str, *key: str | int) -> None:
        super().__init__(text)
        self.faults: list[tuple[Key, str]] = [(key, text)]

    @classmethod
    def of(cls, faults: list[tuple[Key, str]]) -> AnswerError:
        """One for several reasons."""
        error = cls("; ".join(text for _, text in faults))
        error.faults = faults
        return error


def unsound(
    make: Callable[[Mapping[str, Any], str], object], fields: Mapping[str, Any], place: Key
) -> list[tuple[Key, str]]:
    """What no value of a placeholder could make sound, with the keys below ``then``; ``place`` is
    that of the fields.
    """
    fewest: list[tuple[Key, str]] | None = None
    for sample in SAMPLES:
        try:
            found = [((*place, *key), text) for key, text in _each(make, sampled(fields, sample))]
        except AnswerError as error:
            found = error.faults
        if not found:
            return []
        if fewest is None or len(found) < len(fewest):
            fewest = found
    return fewest or []


def _each(
    make: Callable[[Mapping[str, Any], str], object], fields: Mapping[str, Any]
) -> Iterator[tuple[Key, str]]:
    """Each fault of the fields. A decision names one: that field is left out for the next look."""
    left, moved, said = dict(fields), set[str](), ""
    for _ in range(len(fields) + MAX_MISSING):
        try:
            make(left, "")
        except DecisionError as error:
            refused = error
        else:
            return
        key = _steps(refused.refusal.field)
        if not key or not isinstance(root := key[0], str):
            yield key, _told(refused)
            return
        if root not in moved and not _follows(refused, root, moved, said):
            yield key, _told(refused)
            said += refused.refusal.rule
        if root in left:
            del left[root]
        else:
            left[root] = SAMPLES[0]
        moved.add(root)


def _follows(refused: DecisionError, root: str, moved: set[str], said: str) -> bool:
    """True for what may be wrong only because another field was left out, or was said before."""
    rule = refused.refusal.rule
    if repr(root) in said:
        return True
    named = (name for name in moved if re.search(rf"\b{re.escape(name)}\b", rule))
    return not rule.startswith("there is no field ") and any(named)


def _told(refused: DecisionError) -> str:
    refusal = refused.refusal
    return f"{refusal.rule} ({refusal.doc})" if refusal.doc else refusal.rule


def _steps(field: str) -> Key:
    """``members[0].role`` is three steps down."""
    parts = field.replace("]", "").replace("[", ".").split(".")
    return tuple(int(part) if part.isdigit() else part for part in parts if part)
