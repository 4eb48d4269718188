"""The chain of one hook: its plugins, asked in order within the budget of the call."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from pexpolicy.chain.bound_hook import QUICK, REJECT_REASONS, BoundHook, group_ends
from pexpolicy.chain.failure_log import PluginFailureLog
from pexpolicy.chain.hook_tasks import HookTasks, PluginBusyError
from pexpolicy.endpoints.base import Endpoint
from pexpolicy.endpoints.object_names import ObjectNames
from pexpolicy.errors import (
    Log,
    describe_decision_error,
    describe_error,
    with_full_traceback,
)
from pexpolicy.models.context import HOOK_CONTEXT
from pexpolicy.models.decision import Decision, is_intact
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
from pexpolicy.models.request import Request, errors_of
from pexpolicy.models.request_secrets import redact, withheld_values

Clock = Callable[[], float]
Check = Callable[[Any, Any], Decision | Coroutine[Any, Any, Decision] | None]
"""Returns the decision of an answer, ``None`` if it abstains; raises ``DecisionError``."""

MIN_BUDGET_S = 0.001
"""Remaining budget below which no further plugin is asked."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The plugins of one hook, in the order in which they are asked. ``budget`` in seconds.

    A hook that may wait runs in a task of its own. Consecutive hooks that never wait cannot be
    interrupted, so they share a task.
    """

    endpoint: Endpoint[Any]
    links: tuple[BoundHook, ...]
    default: Decision
    budget: float = 4.0
    clock: Clock = time.perf_counter
    log: Log | None = None
    names: ObjectNames | None = None
    hook: str = ""
    """The name of the hook; by default that of the endpoint."""
    own_check: Check | None = None
    """Checks answers instead of the endpoint."""
    new_run: Callable[[Chain, Request], ChainRun] | None = None
    """Makes the state of a call; by default that of a chain that ends with the first decision."""
    merges: bool = False
    """True where every plugin is asked and their decisions are merged."""
    adjusts: bool = False
    """True where every plugin is asked about the decision of another chain."""
    check: Check = field(init=False)
    failure_log: PluginFailureLog = field(init=False)
    group_ends: tuple[int, ...] = field(init=False)
    """For each plugin, the index of the first one after it that runs in another task."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "group_ends", group_ends(self.links))
        object.__setattr__(self, "check", self.own_check or self.endpoint.check_answer)
        failure_log = PluginFailureLog(self.log, self.hook or self.endpoint.name)
        object.__setattr__(self, "failure_log", failure_log)

    async def ask(
        self,
        request: Request,
        tasks: HookTasks,
        decision_id: str = "",
        run: ChainRun | None = None,
    ) -> Outcome:
        """Ask until the run has ended, or the budget is gone. Never raises."""
        if run is None:
            run = (self.new_run or ChainRun)(self, request)
        run.tasks = tasks
        has_waited = True
        while (run.decision is None and run.at < run.last) or run.begin_adjusting():
            task = tasks.start(run)
            has_waited = not task.done()
            if has_waited:
                try:
                    await tasks.wait(task, run, run.seconds_left)
                finally:
                    run.abandoned += not task.done()
                if not task.done():
                    run.time_out(run.chain.links[run.at])
            if task.done() and not task.cancelled():
                task.result()
        decision, decided_by = run.decision, run.decided_by
        if decision is None:
            decision, has_waited = run.undecided(), True
        # A decision of a hook that did not wait was checked a moment ago, and nothing ran since.
        if has_waited and not is_intact(decision):
            decision = self.refusal(f"the decision of {decided_by} was changed meanwhile")
        name = self.endpoint.name
        return Outcome(
            decision_id,
            name,
            request,
            decision,
            decided_by,
            run.steps,
            run.eventful,
            run.adjusted,
        )

    def close(self) -> None:
        """Log the failures that were left out."""
        self.failure_log.close()

    def refusal(self, reason: str) -> Decision:
        """Return the most restrictive decision of the endpoint."""
        refusal = self.endpoint.refusal
        return type(refusal).from_result(refusal.set_fields(), reason=reason)


class ChainRun:
    """The state of one call, which the first decision ends; ``at`` is the next plugin."""

    __slots__ = (
        *("abandoned", "asked", "at", "began", "chain", "deadline", "decided_by", "decision"),
        *("eventful", "last", "request", "steps", "tasks"),
    )

    tasks: HookTasks
    decision: Decision | None
    decided_by: str
    adjusted = False

    def __init__(self, chain: Chain, request: Request) -> None:
        self.chain = chain
        self.request = request
        self.asked: Any = request
        self.at = 0
        self.last = len(chain.links)
        self.steps: list[Step] = []
        self.decision = None
        self.decided_by = DEFAULT
        self.began = began = chain.clock()
        self.deadline = began + chain.budget
        self.abandoned = 0
        self.eventful = False

    @property
    def names(self) -> tuple[str, str]:
        """The plugin that is being asked, and its hook. The watchdog reads them in its thread."""
        links = self.chain.links
        return links[min(self.at, len(links) - 1)].names

    # One long function: each plugin of each call would pay for further function calls.
    async def run(self) -> None:  # noqa: C901, PLR0912
        """Ask the plugins that share the next task, and record their steps.

        A hook that was abandoned meanwhile records nothing.
        """
        request, steps, abandoned = self.request, self.steps, self.abandoned
        last = self.deadline - MIN_BUDGET_S
        while True:
            chain, asked = self.chain, self.asked
            for link in chain.links[self.at : chain.group_ends[self.at]]:
                began = self.began
                if began > last and not self.tasks.suspends_limits():
                    self._skip_rest()
                    return
                breaker = link.breaker
                if breaker is not None and not breaker.allows_call(began):
                    self.fail(link, SKIPPED, "its circuit breaker is open")
                    if self.decision is not None:
                        return
                    continue
                HOOK_CONTEXT.set((link.names, request))
                try:
                    answer = await link.ask(asked)
                    if abandoned != self.abandoned:
                        return
                    if answer is not None:
                        answer = chain.check(answer, asked)
                        if not isinstance(answer, Decision) and answer is not None:
                            answer = await answer
                        if chain.names is not None and answer is not None:
                            chain.names.check(answer)
                except BaseException as error:  # noqa: BLE001 - a plugin may raise anything
                    if abandoned != self.abandoned:
                        return
                    self._fail_with(link, error)
                else:
                    now = chain.clock()
                    us = int((now - began) * 1e6)
                    if us >= QUICK and self._is_late(now):
                        self.time_out(link)
                    else:
                        kind = link.abstained_steps if answer is None else link.decided_steps
                        if us < QUICK:
                            steps.append(kind.steps[us] or kind.first(us))
                            kind.cells[us] += 1
                        else:
                            self.eventful = True
                            steps.append(kind.step(us))
                        self.began = now
                        self.at += 1
                        if breaker is not None and breaker.record_success():
                            chain.failure_log.breaker(link.plugin, "circuit breaker closed")
                        if answer is not None:
                            self.decision, self.decided_by = answer, link.plugin
                if self.decision is not None:
                    if self.continues_after(link):
                        break
                    return
            else:
                return

    def continues_after(self, link: BoundHook) -> bool:
        """Return whether the decision of a plugin leads to another one in the same task."""
        return False

    def begin_adjusting(self) -> bool:
        """Ask other plugins about the decision, if there are any; return true then."""
        return False

    def _is_late(self, now: float) -> bool:
        return now - self.began > self.limit and not self.tasks.suspends_limits()

    @property
    def limit(self) -> float:
        """Seconds that the plugin being asked may take."""
        return min(self.chain.links[self.at].timeout, self.deadline - self.began)

    def seconds_left(self) -> float:
        """Return the rest of ``limit``."""
        return self.limit - (self.chain.clock() - self.began)

    def _fail_with(self, link: BoundHook, error: BaseException) -> None:
        self._collect(error)
        if isinstance(error, PluginBusyError):
            self.fail(link, BUSY, str(error))
            return
        asked = self.asked
        secrets = withheld_values(asked) if isinstance(asked, Request) else asked.secrets()
        if isinstance(error, DecisionError):
            report = describe_decision_error(error, secrets)
            detail = redact(str(error), secrets)
            self.fail(link, INVALID, f"{detail} ({report.place})" if report.place else detail)
            event = "plugin gave an invalid answer"
        else:
            report = describe_error(error, secrets)
            self.fail(link, FAILED, report.summary)
            event = "plugin failed"
        if self.chain.failure_log.is_full:
            report = with_full_traceback(report, error, secrets)
        self.chain.failure_log.failed(
            event, link.plugin, report, self.began, decision_id=self.request.decision_id
        )

    def time_out(self, link: BoundHook) -> None:
        """Record a hook that did not answer in time."""
        text = f"no answer within {self.limit:.3g} s"
        self._collect(TimeoutError(f"{link.plugin}: {text}"))
        self.fail(link, TIMED_OUT, text)

    def _collect(self, error: BaseException) -> None:
        if (errors := errors_of(self.request)) is not None:
            errors.append(error)

    def fail(self, link: BoundHook, outcome: str, detail: str) -> None:
        """Record a failed step that ends now, and decide by its ``on_error``."""
        now = self.chain.clock()
        ms = int((now - self.began) * 1e6) / 1000
        self.steps.append(Step(link.plugin, outcome, ms, detail, link.hook))
        self.eventful = True
        self.began = now
        self.at += 1
        self.chain.failure_log.step(
            link.plugin, outcome, detail, now, decision_id=self.request.decision_id
        )
        breaker = link.breaker
        if breaker is not None and outcome != SKIPPED and breaker.record_failure(now):
            self.chain.failure_log.breaker(
                link.plugin, "circuit breaker opened", pause=breaker.pause, error=detail
            )
        if link.on_error == "reject":
            self.refuse(link, f"{link.plugin} {REJECT_REASONS[outcome]}")

    def _skip_rest(self) -> None:
        rest = self.chain.links[self.at :]
        self.at = len(self.chain.links)
        self.eventful = True
        text = "the budget was gone"
        self.steps += [Step(link.plugin, SKIPPED, 0.0, text, link.hook) for link in rest]
        for link in rest:
            if link.on_error == "reject":
                self.refuse(link, f"{link.plugin} {REJECT_REASONS[SKIPPED]}")
                return

    def undecided(self) -> Decision:
        """Return the decision where ``decision`` is unset after all have been asked."""
        return self.chain.default

    def refuse(self, link: BoundHook, reason: str) -> None:
        """Decide most restrictively, as the ``on_error`` of a plugin says."""
        self.decision = self.chain.refusal(reason)
        self.decided_by = link.plugin
