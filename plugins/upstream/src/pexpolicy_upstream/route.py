"""Route: the calls that it is for, its targets, and the override of their answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pexpolicy import Continue, Decision, Redirect, Reject, Request
from pexpolicy.conformance.replies import UpstreamDecision
from pexpolicy.matching import Condition
from pexpolicy_upstream.shadow_comparison import Comparison
from pexpolicy_upstream.target import Target, TargetError

WITHOUT_RESULT = (Continue, Reject, Redirect)
"""Decisions without an override."""
LEAST = 0.005
"""Minimum seconds left for asking a target."""

Clock = Callable[[], float]


class Route:
    """Asks its targets one after the other until one gives a usable reply."""

    def __init__(
        self,
        name: str,
        condition: Condition,
        targets: Sequence[Target],
        override: Mapping[str, Any],
        comparison: Comparison | None,
        *,
        passes_continue: bool,
        clock: Clock = time.monotonic,
    ) -> None:
        self.name = name
        self.condition = condition
        self.comparison = comparison
        self._targets = tuple(targets)
        self._override = override
        self._passes_continue = passes_continue
        self._extras = targets[0].extras
        self._clock = clock

    async def ask(self, endpoint: str, request: Request, deadline: float) -> Decision | None:
        """Return the decision of the first target whose reply counts, ``None`` where it abstains.

        ``deadline`` is a time of the clock. Raises ``TargetError`` with what each target did, and
        ``DecisionError`` for a result that the override breaks.
        """
        wrong: list[str] = []
        for target in self._targets:
            left = deadline - self._clock()
            if left < LEAST:
                wrong.append(f"{target.name} was not asked: the time was over")
                break
            try:
                heard = await target.ask(endpoint, request, left, is_rest=bool(wrong))
            except TargetError as error:
                wrong.append(str(error))
                continue
            if self.comparison is not None:
                self.comparison.begin(endpoint, request, target, heard)
            return self._made_of(heard)
        raise TargetError("; ".join(wrong))

    def _made_of(self, heard: UpstreamDecision) -> Decision | None:
        decision = heard.decision
        if isinstance(decision, Continue) and not self._passes_continue:
            return None
        if not self._override or decision is None:
            return decision
        if isinstance(decision, WITHOUT_RESULT):
            return decision
        merged = {**decision.set_fields(), **self._override}
        made = type(decision).from_result(merged, reason=decision.reason, extras=self._extras)
        return made.with_warnings(*heard.repairs)
