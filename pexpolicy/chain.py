"""Asking the plugins of one hook in order, inside the budget of the call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import CoroutineType
from typing import Any, Literal, Protocol

import msgspec

from pexpolicy.decisions import Decision
from pexpolicy.endpoints.base import Endpoint
from pexpolicy.faults import blame
from pexpolicy.lanes import Lane, Lanes
from pexpolicy.names import DeclaredNames
from pexpolicy.parameters import Request
from pexpolicy.refusal import DecisionError
from pexpolicy.threads import PluginBusyError

OnError = Literal["skip", "reject"]
Clock = Callable[[], float]

DECIDED = "decided"
ABSTAINED = "abstained"
FAILED = "failed"
TIMED_OUT = "timed_out"
INVALID = "invalid"
BUSY = "busy"
SKIPPED = "skipped"
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Link:
    """One plugin in a chain; ``ask`` gives its answer to a request. ``timeout`` in seconds."""

    plugin: str
    ask: Callable[[Any], Awaitable[Any]]
    timeout: float = 1.0
    on_error: OnError = "skip"


class Step(msgspec.Struct, frozen=True, gc=False):
    """One plugin asked: what came of it, how long it took (seconds), and what was wrong."""

    plugin: str
    outcome: str
    seconds: float
    detail: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """The decision for one call, who made it, and each step on the way."""

    endpoint: str
    decision: Decision
    decided_by: str
    steps: list[Step]


class Log(Protocol):
    """Where the faults of plugins are written, beside the audit line."""

    def warning(self, event: str, **fields: object) -> object:
        """Write one warning."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The plugins of one hook, in the order in which they are asked. ``budget`` in seconds."""

    endpoint: Endpoint[Any]
    links: tuple[Link, ...]
    default: Decision
    budget: float = 4.0
    clock: Clock = time.perf_counter
    log: Log | None = None
    names: DeclaredNames | None = None

    async def ask(self, request: Request, lanes: Lanes) -> Outcome:
        """Ask until somebody decides, the plugins are through, or the budget is gone. Never raises."""
        walk = _Walk(self, request)
        last = len(self.links)
        while walk.decision is None and walk.at < last:
            lane = lanes.begin(walk.onward())
            if lane is not None:
                await self._wait(walk, lane, lanes)
        if walk.decision is None:
            return Outcome(self.endpoint.name, self.default, DEFAULT, walk.steps)
        return Outcome(self.endpoint.name, walk.decision, walk.decided_by, walk.steps)

    async def _wait(self, walk: _Walk, lane: Lane, lanes: Lanes) -> None:
        """Wait for the hook that waits, as long as it may; then leave it behind."""
        walk.waited = True
        left = walk.limit - (self.clock() - walk.began)
        link = self.links[walk.at]
        try:
            await asyncio.wait((lane.done,), timeout=max(left, 0.0))
        finally:
            if not lane.done.done():
                walk.turn += 1
                walk.waited = False
                lanes.abandon(lane, f"{link.plugin}.{self.endpoint.name}")
        if lane.done.done():
            lane.done.result()
        else:
            walk.fail(link, TIMED_OUT, walk.late())


class _Walk:
    """How far the asking has come for one call."""

    __slots__ = (
        "at",
        "began",
        "chain",
        "deadline",
        "decided_by",
        "decision",
        "limit",
        "request",
        "steps",
        "turn",
        "waited",
    )

    def __init__(self, chain: Chain, request: Request) -> None:
        self.chain = chain
        self.request = request
        self.steps: list[Step] = []
        self.decision: Decision | None = None
        self.decided_by = ""
        self.at = 0
        self.began = chain.clock()
        self.deadline = self.began + chain.budget
        self.limit = 0.0
        self.turn = 0
        self.waited = False

    async def onward(self) -> None:
        """Ask the next plugins, up to a decision or to the end of the first hook that waited.

        What follows a hook that waited begins anew in another lane: no plugin inherits a task or a
        context from the one before it. A hook that was abandoned finds its turn over.
        """
        turn = self.turn
        task = asyncio.current_task()
        for link in self.chain.links[self.at :]:
            self.limit = min(link.timeout, self.deadline - self.began)
            if self.limit <= 0.0:
                self._skip_rest()
                return
            try:
                answer = await link.ask(self.request)
                if turn != self.turn:
                    return
                if answer is not None:
                    answer = self.chain.endpoint.admit(answer, self.request)
                    if type(answer) is CoroutineType:
                        answer = await answer
                    if self.chain.names is not None:
                        self.chain.names.check(answer)
            except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
                if turn != self.turn:
                    return
                self._fault(link, error)
            else:
                self._take(link, answer)
            if self.decision is not None or self.waited or (task is not None and task.cancelling()):
                self.waited = False
                return

    def _take(self, link: Link, answer: Decision | None) -> None:
        now = self.chain.clock()
        if now - self.began > self.limit:
            self.fail(link, TIMED_OUT, self.late())
            return
        self.steps.append(
            Step(link.plugin, ABSTAINED if answer is None else DECIDED, now - self.began)
        )
        self.began = now
        self.at += 1
        if answer is not None:
            self.decision, self.decided_by = answer, link.plugin

    def _fault(self, link: Link, error: BaseException) -> None:
        if isinstance(error, DecisionError):
            self.fail(link, INVALID, str(error))
        elif isinstance(error, PluginBusyError):
            self.fail(link, BUSY, str(error))
        else:
            fault = blame(error)
            self.fail(link, FAILED, fault.summary)
            if self.chain.log is not None:
                self.chain.log.warning(
                    "plugin failed",
                    plugin=link.plugin,
                    hook=self.chain.endpoint.name,
                    error=fault.summary,
                    traceback=fault.lines,
                )

    def fail(self, link: Link, outcome: str, detail: str) -> None:
        """Book a failed step; its ``on_error`` says whether the next plugin is asked."""
        now = self.chain.clock()
        self.steps.append(Step(link.plugin, outcome, now - self.began, detail))
        self.began = now
        self.at += 1
        if link.on_error == "reject":
            self._refuse(link, f"{link.plugin} {_SAID[outcome]}")

    def late(self) -> str:
        """What to say of a hook that did not answer in time."""
        return f"no answer within {self.limit:.3g} s"

    def _skip_rest(self) -> None:
        rest: Sequence[Link] = self.chain.links[self.at :]
        self.steps += [Step(link.plugin, SKIPPED, 0.0, "the budget was gone") for link in rest]
        self.at = len(self.chain.links)
        for link in rest:
            if link.on_error == "reject":
                self._refuse(link, f"{link.plugin} {_SAID[SKIPPED]}")
                return

    def _refuse(self, link: Link, reason: str) -> None:
        refusal = self.chain.endpoint.refusal
        self.decision = type(refusal).from_result(refusal.set_fields(), reason=reason)
        self.decided_by = link.plugin


_SAID = {
    FAILED: "failed, and its on_error is reject",
    TIMED_OUT: "was late, and its on_error is reject",
    INVALID: "gave an invalid answer, and its on_error is reject",
    BUSY: "was busy, and its on_error is reject",
    SKIPPED: "was not asked because the budget was gone, and its on_error is reject",
}
