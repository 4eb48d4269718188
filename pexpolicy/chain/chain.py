"""Asking the plugins of one hook in order, inside the budget of the call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pexpolicy.chain.bound_hook import QUICK, BoundHook
from pexpolicy.chain.failure_log import PluginFailureLog
from pexpolicy.chain.hook_tasks import EAGER, HookTasks
from pexpolicy.chain.thread_pool import PluginBusyError
from pexpolicy.endpoints.base import Endpoint
from pexpolicy.endpoints.object_names import ObjectNames
from pexpolicy.errors import Log, describe_decision_error, describe_error
from pexpolicy.models.decision import Decision
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.outcome import (
    BUSY,
    DEFAULT,
    FAILED,
    INVALID,
    SKIPPED,
    TIMED_OUT,
    Outcome,
    Step,
)
from pexpolicy.models.request import Request

Clock = Callable[[], float]

LEAST = 0.001
"""Seconds of budget that are worth asking a plugin for."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The plugins of one hook, in the order in which they are asked. ``budget`` in seconds.

    A hook that may wait runs in a task of its own. Those that never do have nothing that another
    one could interrupt: the ones that follow each other share a task.
    """

    endpoint: Endpoint[Any]
    links: tuple[BoundHook, ...]
    default: Decision
    budget: float = 4.0
    clock: Clock = time.perf_counter
    log: Log | None = None
    names: ObjectNames | None = None
    complaints: PluginFailureLog = field(init=False)
    until: tuple[int, ...] = field(init=False)
    """For each plugin the number of the first one after it that is asked in another task."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "until", _until(self.links))
        object.__setattr__(self, "complaints", PluginFailureLog(self.log, self.endpoint.name))

    async def ask(self, request: Request, tasks: HookTasks, decision_id: str = "") -> Outcome:
        """Ask until a plugin decides, all have been asked, or the budget is gone. Never raises."""
        walk = _ChainRun(self, request)
        last = len(self.links)
        while walk.decision is None and walk.at < last:
            task = tasks.start(walk)
            if not task.done():
                await self._wait(walk, task, tasks)
            if task.done() and not task.cancelled():
                task.result()
        decision, decided_by = walk.decision, walk.decided_by
        if decision is None:
            decision = self.default
        if not decision.is_intact:
            decision = self.refusal(f"the decision of {decided_by} was changed meanwhile")
        name = self.endpoint.name
        return Outcome(decision_id, name, request, decision, decided_by, walk.steps, walk.eventful)

    def refusal(self, reason: str) -> Decision:
        """The most careful decision of the endpoint."""
        refusal = self.endpoint.refusal
        return type(refusal).from_result(refusal.set_fields(), reason=reason)

    async def _wait(self, walk: _ChainRun, task: asyncio.Task[None], tasks: HookTasks) -> None:
        """Wait for a hook that waits, until its time is over; then abandon it."""
        try:
            if not EAGER:
                await tasks.first_step(task)
                if task.done():
                    return
            left = walk.limit - (self.clock() - walk.began)
            await asyncio.wait((task,), timeout=max(left, 0.0))
        finally:
            if not task.done():
                walk.abandoned += 1
                tasks.abandon(task, walk.names)
        if not task.done():
            walk.fail(self.links[walk.at], TIMED_OUT, walk.late())


class _ChainRun:
    """How far the asking has come for one call; ``at`` is the next plugin to be asked."""

    __slots__ = (
        "abandoned",
        "at",
        "began",
        "chain",
        "deadline",
        "decided_by",
        "decision",
        "eventful",
        "request",
        "steps",
    )

    decision: Decision | None
    decided_by: str

    def __init__(self, chain: Chain, request: Request) -> None:
        self.chain = chain
        self.request = request
        self.at = 0
        self.steps: list[Step] = []
        self.decision = None
        self.decided_by = DEFAULT
        self.began = began = chain.clock()
        self.deadline = began + chain.budget
        self.abandoned = 0
        self.eventful = False

    @property
    def names(self) -> tuple[str, str]:
        """The plugin that is asked now, and its hook."""
        links = self.chain.links
        return links[min(self.at, len(links) - 1)].names

    # One function in one piece: what it called, each plugin of each call would pay for.
    async def run(self) -> None:  # noqa: C901, PLR0912
        """Ask the plugins that share the next task, and book what came of it.

        A hook that was abandoned meanwhile books nothing.
        """
        chain, request, steps, abandoned = self.chain, self.request, self.steps, self.abandoned
        last = self.deadline - LEAST
        for link in chain.links[self.at : chain.until[self.at]]:
            began = self.began
            if began > last:
                self._skip_rest()
                return
            breaker = link.breaker
            if breaker is not None and not breaker.allows_call(began):
                self.fail(link, SKIPPED, "its circuit breaker is open")
                if self.decision is not None:
                    return
                continue
            try:
                answer = await link.ask(request)
                if abandoned != self.abandoned:
                    return
                if answer is not None:
                    answer = chain.endpoint.check_answer(answer, request)
                    if not isinstance(answer, Decision):
                        answer = await answer
                    if chain.names is not None:
                        chain.names.check(answer)
            except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
                if abandoned != self.abandoned:
                    return
                self._fault(link, error)
            else:
                now = chain.clock()
                us = int((now - began) * 1e6)
                if us >= QUICK and now - began > self.limit:
                    self.fail(link, TIMED_OUT, self.late())
                else:
                    kind = link.abstained_steps if answer is None else link.decided_steps
                    if us < QUICK:
                        steps.append(kind.steps[us] or kind.first(us))
                        kind.cells[kind.at + us] += 1
                    else:
                        self.eventful = True
                        steps.append(kind.step(us))
                    self.began = now
                    self.at += 1
                    if breaker is not None and breaker.record_success():
                        chain.complaints.breaker(link.plugin, "circuit breaker closed")
                    if answer is not None:
                        self.decision, self.decided_by = answer, link.plugin
            if self.decision is not None:
                return

    @property
    def limit(self) -> float:
        """Seconds that the plugin has that is asked now."""
        return min(self.chain.links[self.at].timeout, self.deadline - self.began)

    def _fault(self, link: BoundHook, error: BaseException) -> None:
        if isinstance(error, DecisionError):
            fault = describe_decision_error(error, self.request.secrets())
            detail = f"{error} ({fault.place})" if fault.place else str(error)
            self.fail(link, INVALID, detail)
            self.chain.complaints.fault("plugin gave an invalid answer", link.plugin, fault)
        elif isinstance(error, PluginBusyError):
            self.fail(link, BUSY, str(error))
        else:
            fault = describe_error(error, self.request.secrets())
            self.fail(link, FAILED, fault.summary)
            self.chain.complaints.fault("plugin failed", link.plugin, fault)

    def fail(self, link: BoundHook, outcome: str, detail: str) -> None:
        """Book a failed step, which ends now; its ``on_error`` says whether the next is asked."""
        now = self.chain.clock()
        ms = int((now - self.began) * 1e6) / 1000
        self.steps.append(Step(link.plugin, outcome, ms, detail))
        self.eventful = True
        self.began = now
        self.at += 1
        self.chain.complaints.step(link.plugin, outcome, detail, now)
        breaker = link.breaker
        if breaker is not None and outcome != SKIPPED and breaker.record_failure(now):
            self.chain.complaints.breaker(
                link.plugin, "circuit breaker opened", pause=breaker.pause
            )
        if link.on_error == "reject":
            self._refuse(link, f"{link.plugin} {_SAID[outcome]}")

    def late(self) -> str:
        """What to say of a hook that did not answer in time."""
        return f"no answer within {self.limit:.3g} s"

    def _skip_rest(self) -> None:
        rest = self.chain.links[self.at :]
        self.at = len(self.chain.links)
        self.eventful = True
        self.steps += [Step(link.plugin, SKIPPED, 0.0, "the budget was gone") for link in rest]
        for link in rest:
            if link.on_error == "reject":
                self._refuse(link, f"{link.plugin} {_SAID[SKIPPED]}")
                return

    def _refuse(self, link: BoundHook, reason: str) -> None:
        self.decision = self.chain.refusal(reason)
        self.decided_by = link.plugin


def _until(links: tuple[BoundHook, ...]) -> tuple[int, ...]:
    until = list(range(1, len(links) + 1))
    for at in reversed(range(len(links) - 1)):
        if not links[at].may_wait and not links[at + 1].may_wait:
            until[at] = until[at + 1]
    return tuple(until)


_SAID = {
    FAILED: "failed, and its on_error is reject",
    TIMED_OUT: "was late, and its on_error is reject",
    INVALID: "gave an invalid answer, and its on_error is reject",
    BUSY: "was busy, and its on_error is reject",
    SKIPPED: "was not asked, and its on_error is reject",
}
