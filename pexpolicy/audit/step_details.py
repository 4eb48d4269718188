"""Details of failed steps without the values that ``[privacy]`` keeps out of the audit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import msgspec

from pexpolicy.audit.adjustments import Steps
from pexpolicy.audit.annotations import personal_texts
from pexpolicy.audit.redaction import REMOVED, Personal, Redaction
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.outcome import Outcome, Step
from pexpolicy.models.rules import Privacy

SHORTEST = 3
"""Characters of the shortest text that is looked for: shorter ones are parts of other words."""
SHOWN = 60
"""Characters that a detail shows of a longer value."""
_FIELD = re.compile(
    r"""(\w++\.[\w.\[\]]++\ =\ )  # possessive: callers choose some of the text
    (?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?:…\ \(\d+\ long\))?""",
    re.VERBOSE,
)
"""The field of an invalid answer with its text."""


def redact_details(outcome: Outcome, steps: Steps, redaction: Redaction) -> Steps:
    """Return steps whose details have no personal value of the request, and none of the answer."""
    personal = redaction.personal
    if personal is None or not outcome.has_slow_or_failed_steps:
        return steps
    people, fields = personal_texts(outcome.request), _personal_fields(outcome.endpoint)

    def without_people(detail: str) -> str:
        found = _FIELD.match(detail)
        if found is not None and _name(found[1]) in fields:
            detail = f"{found[1]}{REMOVED}{detail[found.end() :]}"
        return _without(detail, people, personal)

    return [
        msgspec.structs.replace(step, detail=without_people(step.detail))
        if type(step) is Step and step.detail
        else step
        for step in steps
    ]


def _name(field: str) -> str:
    """Return the last name of ``Model.entries[0].alias = ``."""
    return field.removesuffix(" = ").rpartition(".")[2].partition("[")[0]


def _without(detail: str, people: Mapping[str, str], personal: Personal) -> str:
    found = {
        part: hashed
        for text, hashed in people.items()
        for part in (text, text[:SHOWN], repr(text)[1:-1], str(hashed))
        if len(part) >= SHORTEST and part in detail
    }
    if not found:
        return detail
    parts = "|".join(map(re.escape, sorted(found, key=len, reverse=True)))

    def written(part: re.Match[str]) -> str:
        return personal(found[part[0]]) or REMOVED

    return re.sub(rf"(?<!\w)(?:{parts})(?!\w)", written, detail)


@cache
def _personal_fields(endpoint: str) -> frozenset[str]:
    models = [model for kind in ENDPOINTS[endpoint].decisions for model in (kind, *kind.nested)]
    return frozenset(
        name
        for model in models
        for name, field in model.fields.items()
        if field.privacy is Privacy.PERSONAL
    )
