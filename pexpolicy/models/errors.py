"""Why something a plugin answered cannot be sent, in words for the person who wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pexpolicy.text import brief, brief_name


@dataclass(frozen=True, slots=True)
class ValidationIssue:
    """One breach of the contract: where it is, the rule, and what would follow."""

    model: str
    field: str
    value: Any
    shown: bool
    """False for a value that may be a secret."""
    rule: str
    doc: str
    mark: str
    source: str
    consequence: str

    def __str__(self) -> str:
        where = f"{self.model}.{brief_name(self.field)}" if self.field else self.model
        value = f" = {brief(self.value)}" if self.shown else ""
        mark = f" [{self.mark}]" if self.mark else ""
        doc = f" ({self.doc})" if self.doc else ""
        said = f"{where}{value}: {self.rule}{doc}{mark}"
        return f"{said}{'' if said.endswith('?') else '.'} {self.consequence}."


class DecisionError(ValueError):
    """A decision that Infinity would drop; ``refusal`` says which field, rule and consequence."""

    def __init__(self, refusal: ValidationIssue) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal
