"""Errors of decisions that Infinity would drop, in words for the author of the plugin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pexpolicy.text import brief, brief_name

_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


def steps_of(place: str) -> tuple[str | int, ...]:
    """Return the place of a field as a key; that of ``members[0].role`` has three parts."""
    return tuple(int(index) if index else name for index, name in _STEP.findall(place))


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationIssue:
    """One breach of the contract: its place, the rule, and the consequence."""

    model: str
    field: str = ""
    value: Any = None
    shown: bool = False
    """False for a value that may be a secret."""
    rule: str
    mark: str = ""
    consequence: str

    @property
    def key(self) -> tuple[str | int, ...]:
        """Return the field as a key."""
        return steps_of(self.field)

    def __str__(self) -> str:
        where = f"{self.model}.{brief_name(self.field)}" if self.field else self.model
        value = f" = {brief(self.value)}" if self.shown else ""
        mark = f" [{self.mark}]" if self.mark else ""
        text = f"{where}{value}: {self.rule}{mark}"
        return f"{text}{'' if text.endswith('?') else '.'} {self.consequence}."


class DecisionError(ValueError):
    """A decision that Infinity would drop; ``refusal`` has field, rule and consequence."""

    def __init__(self, refusal: ValidationIssue) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal
