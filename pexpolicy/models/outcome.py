"""The outcome of a call: the decision, the plugin that made it, and the step of each plugin."""

from __future__ import annotations

from typing import Any

import msgspec

from pexpolicy.models.decision import Decision
from pexpolicy.models.difference import changed_fields
from pexpolicy.models.request import Request

DECIDED = "decided"
"""Its answer is the reply."""
ABSTAINED = "abstained"
"""It left the call to the next plugin, or the decision as it was."""
FAILED = "failed"
"""It raised; `detail` has the exception and the line, standard error the traceback. Fix the plugin.
"""
TIMED_OUT = "timed_out"
"""No answer within its `timeout`, or within the rest of the budget; `detail` has the line where it
waits, unless it runs in a process of its own.
"""
INVALID = "invalid"
"""Infinity would drop its answer; `detail` has field, value, rule and line. Fix the plugin, or the
name under `[infinity]`.
"""
BUSY = "busy"
"""All its threads, or its workers with `isolation = "process"`, are in calls that have not
returned, and 32 calls wait. Raise `threads`, or `processes`.
"""
SKIPPED = "skipped"
"""Not asked: no budget was left, or its circuit breaker is open, as `detail` says. See the steps
before it, or its earlier calls.
"""
ADJUSTED = "adjusted"
"""It changed the decision of another plugin; `changes` has each field, `from` what `to` what. A
missing value was not set.
"""
ANSWERED = (ABSTAINED, DECIDED, ADJUSTED)
"""Outcomes of a step with a usable answer."""
NOT_ANSWERED = (FAILED, TIMED_OUT, INVALID, BUSY, SKIPPED)
"""Outcomes without a usable answer."""
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
        return changed_fields(self.before.facts(), self.after.facts())


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
