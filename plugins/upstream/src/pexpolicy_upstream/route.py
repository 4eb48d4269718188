"""Route: the calls that it is for, its targets, and the comparison of two of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pexpolicy import Continue, Decision, Redirect, Reject, Request
from pexpolicy.conformance.replies import UpstreamDecision, difference
from pexpolicy.matching import Condition
from pexpolicy_upstream.target import Target, TargetError

_LOG = logging.getLogger(__name__)
MOST_PENDING = 64
"""Pending comparisons of one route; further calls are skipped and counted."""
MOST_KINDS = 50
"""Kinds of differences with a counter of their own."""


class Comparison:
    """Asks ``target`` what another one has answered, and keeps count of how they differ.

    It costs the caller nothing: it begins when the answer is given, in a task of its own.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._pending: set[asyncio.Task[None]] = set()
        self._counts = {"same": 0, "failed": 0, "left_out": 0}
        self._differing: Counter[str] = Counter()

    def begin(
        self, endpoint: str, request: Request, answered: Target, heard: UpstreamDecision
    ) -> None:
        """Start a comparison with a decision."""
        if len(self._pending) >= MOST_PENDING:
            self._counts["left_out"] += 1
            return
        task = asyncio.create_task(self._run(endpoint, request, answered, heard))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def finish(self) -> None:
        """Cancel pending comparisons."""
        for task in self._pending:
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)

    async def _run(
        self, endpoint: str, request: Request, answered: Target, heard: UpstreamDecision
    ) -> None:
        # The answer goes on its way first.
        await asyncio.sleep(0)
        try:
            other = await self._target.ask(endpoint, request, self._target.timeout)
        except TargetError as error:
            self._counts["failed"] += 1
            _LOG.warning("%s: not compared with %s: %s", endpoint, answered.name, error)
            return
        if heard.comparable == other.comparable:
            self._counts["same"] += 1
            return
        what = difference(heard.comparable, other.comparable)
        is_counted = what in self._differing or len(self._differing) < MOST_KINDS
        self._differing[what if is_counted else "more"] += 1
        told = request.params.get("request_id") or other.decision_id or heard.decision_id
        which = f" (call {told})" if told else ""
        names = f"{answered.name} and {self._target.name}"
        _LOG.warning("%s: %s differ: %s%s", endpoint, names, what, which)

    def status(self) -> Mapping[str, object]:
        """Return how often the two agreed, and the counts of differences."""
        return {
            "compare_with": self._target.name,
            **self._counts,
            "differing": dict(self._differing),
        }


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
