"""The changes of adjusted decisions, as they may be written and shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET, Raw

from pexpolicy.audit.records import AdjustedStepRecord, encode
from pexpolicy.audit.redaction import REMOVED, Redaction
from pexpolicy.models.difference import Changes
from pexpolicy.models.model import assign
from pexpolicy.models.outcome import AdjustedStep, Outcome, Step

Steps = Sequence[Step | AdjustedStepRecord]


def redact_steps(outcome: Outcome, redaction: Redaction) -> Steps:
    """Return the steps of an outcome for a line: adjusted ones with their changes."""
    return [
        AdjustedStepRecord(
            step.plugin,
            step.outcome,
            step.ms,
            step.hook,
            _written_changes(outcome.endpoint, step, redaction),
        )
        if type(step) is AdjustedStep
        else step
        for step in outcome.steps
    ]


def plain_steps(outcome: Outcome) -> Steps:
    """Return the steps of an outcome without the values of adjusted fields."""
    return [
        Step(step.plugin, step.outcome, step.ms, step.detail, step.hook, step.fields)
        for step in outcome.steps
    ]


def _written_changes(endpoint: str, step: AdjustedStep, redaction: Redaction) -> Raw:
    """Return the redacted changes in JSON, kept in the decision that they lead to."""
    before, known = step.before, step.after.compared
    # Not the decision before, whose ``replaced`` holds the one after: that would be a circle.
    if (
        known is not None
        and known[0] is redaction
        and known[1] is before.result
        and known[2] is before.reason
    ):
        return known[3]
    written = Raw(encode(redact_changes(endpoint, step, redaction)))
    assign(step.after, "compared", (redaction, before.result, before.reason, written))
    return written


def redact_changes(endpoint: str, step: AdjustedStep, redaction: Redaction | None) -> Changes:
    """Return each changed field, ``from`` what ``to`` what, with ``***`` for what is removed.

    Without a redaction nothing is.
    """
    before = after = None
    if redaction is not None:
        before = redaction.masked_fields(endpoint, step.before)
        after = redaction.masked_fields(endpoint, step.after)
    changes: Changes = {}
    for name, (old, new) in step.changes.items():
        change = changes[name] = {}
        if old is not UNSET:
            change["from"] = _shown(name, old, before)
        if new is not UNSET:
            change["to"] = _shown(name, new, after)
    return changes


def _shown(name: str, value: Any, masked: Mapping[str, Any] | None) -> Any:
    return value if masked is None or name in _NOT_FIELDS else masked.get(name, REMOVED)


_NOT_FIELDS = ("action", "reason", "image")
"""Changes that are no fields of a result: they hold no secrets."""
