"""Comparison of the replies of two targets after the reply was sent."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping

from pexpolicy import Request
from pexpolicy.conformance.replies import UpstreamDecision, difference
from pexpolicy_upstream.target import Target, TargetError

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
        self._same = self._failed = self._left_out = 0
        self._differing: Counter[str] = Counter()

    def begin(
        self, endpoint: str, request: Request, answered: Target, heard: UpstreamDecision
    ) -> None:
        """Start a comparison with a decision."""
        if len(self._pending) >= MOST_PENDING:
            self._left_out += 1
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
            self._failed += 1
            self._log(f"{endpoint}: not compared with {answered.name}: {error}")
            return
        if heard.comparable == other.comparable:
            self._same += 1
            return
        what = difference(heard.comparable, other.comparable)
        if what in self._differing or len(self._differing) < MOST_KINDS:
            self._differing[what] += 1
        else:
            self._differing["more"] += 1
        told = request.params.get("request_id") or other.decision_id or heard.decision_id
        which = f" (call {told})" if told else ""
        self._log(f"{endpoint}: {answered.name} and {self._target.name} differ: {what}{which}")

    def _log(self, text: str) -> None:
        logging.getLogger(__name__).warning("%s", text)

    def status(self) -> Mapping[str, object]:
        """Return how often the two agreed, and the counts of differences."""
        return {
            "compare_with": self._target.name,
            "same": self._same,
            "differing": dict(self._differing),
            "failed": self._failed,
            "left_out": self._left_out,
        }
