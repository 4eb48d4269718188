"""The outcome of a call: the decision, the plugin that made it, and the step of each plugin."""

from __future__ import annotations

import msgspec

from pexpolicy.models.decision import Decision
from pexpolicy.models.request import Request

DECIDED = "decided"
ABSTAINED = "abstained"
FAILED = "failed"
TIMED_OUT = "timed_out"
INVALID = "invalid"
BUSY = "busy"
SKIPPED = "skipped"
DEFAULT = "default"
"""``decided_by`` where no plugin decides."""


class Step(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One plugin asked: the outcome, the time in milliseconds, and the error."""

    plugin: str
    outcome: str
    ms: float
    detail: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """The decision for one call, the plugin that made it, and each step.

    ``has_slow_or_failed_steps`` is true where a plugin was not quick, or failed.
    """

    decision_id: str
    endpoint: str
    request: Request
    decision: Decision
    decided_by: str
    steps: list[Step]
    has_slow_or_failed_steps: bool = False
