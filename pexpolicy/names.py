"""Names of Infinity's own objects: locations, themes, proxies. A name it does not know voids the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pexpolicy.decisions import Decision
from pexpolicy.endpoints.service_fields import NAMED_OBJECTS
from pexpolicy.refusal import DecisionError, Refusal, brief, did_you_mean


class DeclaredNames:
    """The names that ``[infinity]`` of the configuration lists, by kind."""

    def __init__(self, declared: Mapping[str, frozenset[str]]) -> None:
        self._declared = declared

    def check(self, decision: Decision) -> None:
        """Raise ``DecisionError`` for a name of a declared kind that is not listed."""
        for field, value in _named(decision.set_fields()):
            kind = NAMED_OBJECTS[field]
            known = self._declared.get(kind)
            if known is not None and value and value not in known:
                raise DecisionError(_refusal(decision, field, value, kind, known))


def _named(fields: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for field, value in fields.items():
        if field in NAMED_OBJECTS:
            for name in value if isinstance(value, list) else [value]:
                if isinstance(name, str):
                    yield field, name
        elif field == "automatic_participants":
            for participant in value:
                yield from _named(participant)


def _refusal(
    decision: Decision, field: str, value: str, kind: str, known: frozenset[str]
) -> Refusal:
    return Refusal(
        model=type(decision).__name__,
        field=field,
        value=value,
        shown=True,
        rule=f"{brief(value)} is not listed under [infinity] {kind}{did_you_mean(value, known)}",
        doc="a name that Infinity does not know",
        mark="DOCUMENTED*",
        source="oda",
        consequence=decision.consequence,
    )
