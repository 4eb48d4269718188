"""Validation of decisions at start-up that reports every problem."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pexpolicy import DecisionError, Key
from pexpolicy_rules.placeholders import with_sample

SAMPLES = (
    "1234",
    "a@example.com",
    "sip:a@example.com",
    "00000000-0000-4000-8000-000000000000",
    "guest",
    "1",
)
"""Sample values for placeholders; one of them must make the decision valid."""
MAX_MISSING = 5
"""Maximum number of missing fields to report."""


class AnswerError(ValueError):
    """A decision that is invalid at an endpoint, with all ``issues`` and their keys in ``then``."""

    def __init__(self, text: str, *key: str | int) -> None:
        super().__init__(text)
        self.issues: list[tuple[Key, str]] = [(key, text)]

    @classmethod
    def of(cls, issues: list[tuple[Key, str]]) -> AnswerError:
        """Return one error for several issues."""
        error = cls("; ".join(text for _, text in issues))
        error.issues = issues
        return error


def decision_issues(
    make: Callable[[Mapping[str, Any], str], object], fields: Mapping[str, Any], place: Key
) -> list[tuple[Key, str]]:
    """Return the issues that remain with every sample value, with their keys in ``then``.

    ``place`` is the key of the fields.
    """
    fewest: list[tuple[Key, str]] | None = None
    for sample in SAMPLES:
        try:
            found = [
                ((*place, *key), text) for key, text in _each(make, with_sample(fields, sample))
            ]
        except AnswerError as error:
            found = error.issues
        if not found:
            return []
        if fewest is None or len(found) < len(fewest):
            fewest = found
    return fewest or []


def _each(
    make: Callable[[Mapping[str, Any], str], object], fields: Mapping[str, Any]
) -> Iterator[tuple[Key, str]]:
    """Yield each issue. A decision reports one, so the next attempt is without that field."""
    remaining, changed, rules = dict(fields), set[str](), ""
    for _ in range(len(fields) + MAX_MISSING):
        try:
            make(remaining, "")
        except DecisionError as error:
            refused = error
        else:
            return
        key = refused.refusal.key
        if not key or not isinstance(root := key[0], str):
            yield key, refused.refusal.text
            return
        if root not in changed and not _is_consequence(refused, root, changed, rules):
            yield key, refused.refusal.text
            rules += refused.refusal.rule
        if root in remaining:
            del remaining[root]
        else:
            remaining[root] = SAMPLES[0]
        changed.add(root)


def _is_consequence(refused: DecisionError, root: str, changed: set[str], rules: str) -> bool:
    """Return whether an issue was reported before, or may come from a field that was changed."""
    rule = refused.refusal.rule
    if repr(root) in rules:
        return True
    named = (name for name in changed if re.search(rf"\b{re.escape(name)}\b", rule))
    return not rule.startswith("there is no field ") and any(named)
