"""Why something a plugin answered cannot be sent, in words for the person who wrote it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Refusal:
    """One breach of the contract: where it is, what stands there, what the rule is, what would follow."""

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
        where = f"{self.model}.{self.field}" if self.field else self.model
        value = f" = {brief(self.value)}" if self.shown else ""
        mark = f" [{self.mark} {self.source}]" if self.mark else ""
        doc = f" ({self.doc})" if self.doc else ""
        return f"{where}{value}: {self.rule}{doc}{mark}. {self.consequence}."


class DecisionError(ValueError):
    """A decision that Infinity would drop; ``refusal`` says which field, rule and consequence."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


def brief(value: object, limit: int = 60) -> str:
    """A value on one short line, whatever it is."""
    if isinstance(value, str | bytes):
        return repr(value if len(value) <= limit else value[:limit]) + (
            f"… ({len(value)} long)" if len(value) > limit else ""
        )
    if value is None or isinstance(value, bool | int | float):
        return repr(value)[:limit]
    return f"a {type(value).__name__}"


def did_you_mean(name: str, known: Collection[str]) -> str:
    """``; did you mean 'x'?`` where a known name is close, else nothing."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def unknown_field(missing: str, fields: Mapping[Any, Any], known: Collection[str]) -> str:
    """What to say of a field that does not exist; of the likeliest one where another is missing."""
    for name in fields:
        if name in known or not isinstance(name, str):
            continue
        guess = did_you_mean(name, known)
        if not missing or repr(missing) in guess:
            return f"there is no field {name!r}{guess}"
    return ""
