"""Names of objects in Infinity: an unknown one invalidates the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pexpolicy.endpoints.service_fields import NAMED_OBJECTS
from pexpolicy.endpoints.service_types import AutomaticParticipant
from pexpolicy.models.contract import contract_of
from pexpolicy.models.decision import Decision
from pexpolicy.models.errors import DecisionError, ValidationIssue
from pexpolicy.models.rules import Confidence
from pexpolicy.text import brief, did_you_mean

MAX_VALIDATED = 1024
"""Validated results that are remembered: most decisions are made once for many calls."""
MAX_COMPARED = 300
"""Names that an unknown one is compared with, as a call waits meanwhile: 10 ms."""


class ObjectNames:
    """The names that ``[infinity]`` of the configuration lists, by kind."""

    def __init__(self, declared: Mapping[str, frozenset[str]]) -> None:
        self._declared = declared
        self._validated: set[tuple[type[Decision], bytes]] = set()

    def check(self, decision: Decision) -> None:
        """Raise ``DecisionError`` for a name of a declared kind that is not listed."""
        key = type(decision), decision.result
        if key in self._validated:
            return
        for field, value in _named(decision.set_fields(), contract_of(type(decision)).names):
            kind = NAMED_OBJECTS[field]
            known = self._declared.get(kind)
            if known is not None and value and value not in known:
                raise DecisionError(_refusal(decision, field, value, kind, known))
        if len(self._validated) >= MAX_VALIDATED:
            self._validated.clear()
        self._validated.add(key)


def _named(fields: Mapping[str, Any], known: frozenset[str]) -> Iterable[tuple[str, str]]:
    """Yield the names in fields, each with its field; skip unknown fields."""
    for field in NAMED_OBJECTS.keys() & fields.keys() & known:
        value = fields[field]
        for name in value if isinstance(value, list) else [value]:
            if isinstance(name, str):
                yield field, name
    if "automatic_participants" in known:
        for participant in fields.get("automatic_participants", ()):
            yield from _named(participant, contract_of(AutomaticParticipant).names)


def _refusal(
    decision: Decision, field: str, value: str, kind: str, known: frozenset[str]
) -> ValidationIssue:
    guess = did_you_mean(value, known) if len(known) <= MAX_COMPARED else ""
    guess = guess or "; if Infinity has it, add it there"
    return ValidationIssue(
        model=type(decision).__name__,
        field=field,
        value=value,
        shown=True,
        rule=f"{brief(value)} is not listed under [infinity] {kind}{guess}",
        mark=Confidence.TRANSCRIBED,
        consequence=contract_of(type(decision)).consequence,
    )
