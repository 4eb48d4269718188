"""What became of a call: the decision, who made it, and what each plugin that was asked said."""

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
"""Who decides where no plugin does."""


class Step(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One plugin asked: what came of it, how many milliseconds it took, and what was wrong."""

    plugin: str
    outcome: str
    ms: float
    detail: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """The decision for one call, who made it, and each step on the way.

    ``has_slow_or_failed_steps`` is true where a plugin was not quick, or was not heard.
    """

    decision_id: str
    endpoint: str
    request: Request
    decision: Decision
    decided_by: str
    steps: list[Step]
    has_slow_or_failed_steps: bool = False
