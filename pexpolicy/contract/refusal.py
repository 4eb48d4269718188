"""Why something a plugin answered cannot be sent, in words for the person who wrote it."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

MAX_BITS = 200
MAX_GUESSED = 64
"""Longer words than this are no slips of the pen; comparing them would take long."""


@dataclass(frozen=True, slots=True)
class Refusal:
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
        mark = f" [{self.mark} {self.source}]" if self.mark else ""
        doc = f" ({self.doc})" if self.doc else ""
        said = f"{where}{value}: {self.rule}{doc}{mark}"
        return f"{said}{'' if said.endswith('?') else '.'} {self.consequence}."


class DecisionError(ValueError):
    """A decision that Infinity would drop; ``refusal`` says which field, rule and consequence."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


def brief(value: object, limit: int = 60) -> str:
    """A value on one short line, whatever it is; no method of its own is called."""
    kind = type(value)
    if kind is str or kind is bytes:
        written: str | bytes = value  # type: ignore[assignment]
        if len(written) > limit:
            return f"{written[:limit]!r}… ({len(written)} long)"
        return repr(written)
    if kind is int and value.bit_length() > MAX_BITS:  # type: ignore[attr-defined]
        return f"a number of more than {MAX_BITS} bits"
    if value is None or kind in (bool, int, float):
        return repr(value)[:limit]
    return article(type.__dict__["__name__"].__get__(kind)[:limit])


def article(noun: str) -> str:
    """A noun behind the article that it takes."""
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"


def brief_name(name: str, limit: int = 80) -> str:
    """The name of a field, cut where it is absurdly long."""
    return name if len(name) <= limit else f"{name[:limit]}…"


def did_you_mean(name: str, known: Collection[str]) -> str:
    """``; did you mean 'x'?`` where a known name is close, else nothing."""
    if len(name) > MAX_GUESSED:
        return ""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
