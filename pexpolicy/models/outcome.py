"""The outcome of a call: the decision, the plugin that made it, and the step of each plugin."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from pexpolicy.models.decision import Decision
from pexpolicy.models.request import Request

DECIDED = "decided"
ABSTAINED = "abstained"
FAILED = "failed"
TIMED_OUT = "timed_out"
INVALID = "invalid"
BUSY = "busy"
SKIPPED = "skipped"
ADJUSTED = "adjusted"
ANSWERED = (ABSTAINED, DECIDED, ADJUSTED)
"""Outcomes of a step with a usable answer."""
DEFAULT = "default"
"""``decided_by`` where no plugin decides."""


class Step(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One plugin asked: the outcome, the time in milliseconds, and the error.

    ``hook`` is empty for the hook of the endpoint. ``fields`` are those that the plugin gave to a
    merged decision.
    """

    plugin: str
    outcome: str
    ms: float
    detail: str = ""
    hook: str = ""
    fields: tuple[str, ...] = ()

    @property
    def changes(self) -> dict[str, tuple[Any, Any]]:
        """The changed fields, each with its old and its new value; ``UNSET`` where it is not set.

        Empty unless the step adjusted a decision. ``action`` and ``reason`` are among them; an
        ``image`` has its size and checksum.
        """
        return {}


class AdjustedStep(Step, frozen=True, kw_only=True):
    """A step that changed the decision, with the decision before and after it.

    It cannot be written as JSON: secrets have to be removed first.
    """

    before: Decision
    after: Decision

    @property
    def changes(self) -> dict[str, tuple[Any, Any]]:
        """The changed fields, each with its old and its new value."""
        before, after = self.before.facts(), self.after.facts()
        changed = {
            name: (value, after.get(name, UNSET))
            for name, value in before.items()
            if after.get(name, UNSET) != value
        }
        for name, value in after.items():
            if name not in before:
                changed[name] = UNSET, value
        return changed


class Outcome(msgspec.Struct, frozen=True):
    """The decision for one call, the plugin that made it, and each step.

    ``has_slow_or_failed_steps`` is true where a plugin was not quick, or failed, and ``adjusted``
    where a step is an ``AdjustedStep``.
    """

    decision_id: str
    endpoint: str
    request: Request
    decision: Decision
    decided_by: str
    steps: list[Step]
    has_slow_or_failed_steps: bool = False
    adjusted: bool = False
    audit_line: bytes = b""
    """For observers: the audit line of the call as JSON, without secrets and as ``[privacy]``
    requires; without the fields of the hash chain.
    """
