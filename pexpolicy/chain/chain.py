"""The chain of one endpoint: its plugins, asked in order within the budget of the call.

The first decision ends a chain, unless all decisions are merged, or other plugins adjust it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from traceback import StackSummary
from types import FrameType
from typing import Any, Literal

import msgspec

from pexpolicy.chain.circuit_breaker import CircuitBreaker
from pexpolicy.chain.fold import Draft, check_adjusted, check_merged
from pexpolicy.chain.hook_tasks import HookTasks, PluginBusyError, waiting_frames
from pexpolicy.endpoints.base import Endpoint
from pexpolicy.endpoints.object_names import ObjectNames
from pexpolicy.errors import (
    Log,
    PluginFailureLog,
    describe_decision_error,
    describe_error,
    full_traceback,
    place_of,
)
from pexpolicy.models.context import HOOK_CONTEXT
from pexpolicy.models.decision import Decision, is_intact
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.outcome import (
    ABSTAINED,
    ADJUSTED,
    BUSY,
    DECIDED,
    DEFAULT,
    FAILED,
    INVALID,
    SKIPPED,
    TIMED_OUT,
    AdjustedStep,
    Outcome,
    Step,
)
from pexpolicy.models.request import Request, errors_of, redact, withheld_values

Clock = Callable[[], float]
Checked = Decision | Coroutine[Any, Any, Decision] | None
Check = Callable[[Any, Any], Checked]
"""Returns the decision of an answer, ``None`` if it abstains; raises ``DecisionError``."""

MIN_BUDGET_S = 0.001
"""Remaining budget below which no further plugin is asked."""
ADJUST = "adjust_"
"""The prefix of the names of the hooks that adjust decisions; the endpoint follows."""
RESTRICT = "restrict_"
"""The prefix of those that may only narrow decisions."""

REJECT_REASONS = {
    FAILED: "failed, and its on_error is reject",
    TIMED_OUT: "was late, and its on_error is reject",
    INVALID: "gave an invalid answer, and its on_error is reject",
    BUSY: "was busy, and its on_error is reject",
    SKIPPED: "was not asked, and its on_error is reject",
}
"""The end of the reason of a reject that follows a failed step, after the name of the plugin."""
QUICK = 100
"""Microseconds below which an answer is quick, as nearly all are."""


def hooks_of(endpoint: str) -> tuple[str, str, str]:
    """Return the hooks that decide, adjust and restrict the answer of an endpoint."""
    return endpoint, ADJUST + endpoint, RESTRICT + endpoint


@dataclass(slots=True, eq=False)
class BoundHook:
    """One plugin in a chain; ``ask`` returns its answer to a request. ``timeout`` in seconds."""

    plugin: str
    ask: Callable[[Any], Awaitable[Any]]
    timeout: float = 1.0
    on_error: Literal["skip", "reject"] = "skip"
    breaker: CircuitBreaker | None = None
    names: tuple[str, str] = ("", "")
    """Plugin and hook, for the watchdog of the event loop."""
    may_wait: bool = True
    """False where ``ask`` never waits, whatever the request."""
    adjusts: bool = False
    """True for a hook that adjusts or restricts decisions: ``ask`` takes a ``Draft``."""
    hook: str = field(init=False)
    """The hook that its steps name: empty for that of the endpoint."""
    quick: dict[str, list[int]] = field(init=False)
    """How many quick answers took each microsecond, by the outcome of the step."""

    def __post_init__(self) -> None:
        self.hook, answered = (self.names[1], ADJUSTED) if self.adjusts else ("", DECIDED)
        self.quick = {ABSTAINED: [0] * QUICK, answered: [0] * QUICK}


@dataclass(slots=True, eq=False)
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
    deciding: int = -1
    """How many of the plugins decide; those after them adjust the decision. By default all decide.

    They are asked about a decision of a plugin only, not about the default or a reject that follows
    a failure: no plugin decided those.
    """
    restricting: int = -1
    """The index of the first plugin that may only narrow the decision; by default there is none.

    They are always asked, also about the default and a reject, within a quarter of the budget that
    is kept for them.
    """
    merges: bool = False
    """True where every plugin is asked and their decisions are merged."""
    shadows: Sequence[Chain] = ()
    """Each of one plugin, asked after the reply."""
    check: Check = field(init=False)
    run_type: type[ChainRun] = field(init=False)
    """The class of the state of a call."""
    failure_log: PluginFailureLog = field(init=False)
    group_ends: list[int] = field(init=False)
    """For each plugin, the index of the first one after it that runs in another task, or is asked
    another question.
    """

    def __post_init__(self) -> None:
        if self.deciding < 0:
            self.deciding = len(self.links)
        if self.restricting < 0:
            self.restricting = len(self.links)
        self.check = self.endpoint.check_answer
        folds = self.merges or self.deciding < len(self.links)
        self.run_type = FoldRun if folds else ChainRun
        self.failure_log = PluginFailureLog(self.log, self.endpoint.name)
        borders = (len(self.links), self.deciding, self.restricting)
        waits = [link.may_wait for link in self.links]
        self.group_ends = ends = list(range(1, len(waits) + 1))
        for at in reversed(range(len(waits))):
            if at + 1 not in borders and not (waits[at] or waits[at + 1]):
                ends[at] = ends[at + 1]

    async def ask(
        self, request: Request, tasks: HookTasks, decision_id: str = "", run: ChainRun | None = None
    ) -> Outcome:
        """Ask until the run has ended, or the budget is gone. Never raises."""
        if run is None:
            run = self.run_type(self, request)
        has_waited = True
        while (run.decision is None and run.at < run.last) or run.begin_next():
            task = tasks.start(run, may_wait=self.links[run.at].may_wait)
            has_waited = task is not None
            if task is not None:
                try:
                    await tasks.wait(task, run, run.seconds_left)
                finally:
                    run.abandoned += not task.done()
                if not task.done():
                    run.time_out(run.chain.links[run.at], [*waiting_frames(task)])
                elif not task.cancelled():
                    task.result()
        decision, decided_by = run.decision, run.decided_by
        if decision is None:
            decision, has_waited = run.undecided(), True
        # A decision of a hook that did not wait was checked a moment ago, and nothing ran since.
        if has_waited and not is_intact(decision):
            why = f"the decision of {decided_by} was changed meanwhile"
            decision = self.endpoint.refusal.with_reason(why)
        name = self.endpoint.name
        return Outcome(
            decision_id, name, request, decision, decided_by, run.steps, run.eventful, run.adjusted
        )

    async def adjust(self, outcome: Outcome, tasks: HookTasks) -> Outcome:
        """Return the outcome after adjusters, or plugins that restrict, with their steps only.

        They have the budget of this chain. Never raises.
        """
        run = FoldRun(self, outcome.request)
        restricts = self.deciding == self.restricting
        run.ask_about(outcome.decision, outcome.decided_by, restricts=restricts)
        return await self.ask(outcome.request, tasks, outcome.decision_id, run)


class ChainRun:
    """The state of one call, which the first decision ends; ``at`` is the next plugin."""

    __slots__ = (
        *("abandoned", "asked", "at", "began", "chain", "check", "deadline", "decided_by"),
        *("decision", "eventful", "last", "request", "steps"),
    )

    decision: Decision | None
    decided_by: str
    adjusted = False

    def __init__(self, chain: Chain, request: Request) -> None:
        self.chain = chain
        self.request = request
        self.asked: Any = request
        """What the plugins get."""
        self.check = chain.check
        self.at = 0
        self.last = chain.deciding
        """Where those that are asked now end."""
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
        chain, request, steps, abandoned = self.chain, self.request, self.steps, self.abandoned
        while True:
            asked, check, last = self.asked, self.check, self.deadline - MIN_BUDGET_S
            for link in chain.links[self.at : chain.group_ends[self.at]]:
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
                HOOK_CONTEXT.set((link.names, request))
                try:
                    answer = await link.ask(asked)
                    if abandoned != self.abandoned:
                        return
                    if answer is not None:
                        answer = check(answer, asked)
                        if not isinstance(answer, Decision) and answer is not None:
                            answer = await answer
                        if chain.names is not None and answer is not None:
                            answer = chain.names.check(answer)
                except BaseException as error:  # noqa: BLE001 - a plugin may raise anything
                    if abandoned != self.abandoned:
                        return
                    self._fail_with(link, error)
                else:
                    now = chain.clock()
                    us = int((now - began) * 1e6)
                    if us >= QUICK and now - began > self.limit:
                        self.time_out(link)
                    else:
                        answered = ADJUSTED if link.adjusts else DECIDED
                        outcome = ABSTAINED if answer is None else answered
                        steps.append(Step(link.plugin, outcome, us / 1000, "", link.hook))
                        if us < QUICK:
                            link.quick[outcome][us] += 1
                        else:
                            self.eventful = True
                        self.began = now
                        self.at += 1
                        if breaker is not None and breaker.record_success():
                            chain.failure_log.breaker(link.plugin, "closed", hook=link.hook)
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

    def begin_next(self) -> bool:
        """Ask other plugins about the decision, if there are any; return true then."""
        return False

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
        secrets = self.secrets()
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
            report = replace(report, lines=full_traceback(error, secrets))
        self.chain.failure_log.failed(
            event,
            link.plugin,
            report,
            self.began,
            hook=link.hook,
            decision_id=self.request.decision_id,
        )

    def secrets(self) -> list[str]:
        """Return what logs and details must not have."""
        return withheld_values(self.request)

    def time_out(self, link: BoundHook, frames: Sequence[tuple[FrameType, int]] = ()) -> None:
        """Record a hook that did not answer in time, and where it waits if it still does."""
        text = f"no answer within {self.limit:.3g} s"
        place, function = place_of(frames)
        late = TimeoutError(f"{link.plugin}: {text}")
        if place and errors_of(self.request) is not None:
            late.add_note("It waits here:\n" + "".join(StackSummary.extract(frames).format()))
        self._collect(late)
        self.fail(link, TIMED_OUT, f"{text} ({place} in {function})" if place else text)

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
        where, log = {"hook": link.hook}, self.chain.failure_log
        log.step(link.plugin, outcome, detail, now, decision_id=self.request.decision_id, **where)
        breaker = link.breaker
        if breaker is not None and outcome != SKIPPED and breaker.record_failure(now):
            log.breaker(link.plugin, "opened", pause=breaker.pause, error=detail, **where)
        if link.on_error == "reject":
            self.refuse(link, outcome)

    def _skip_rest(self) -> None:
        rest = self.chain.links[self.at : self.last]
        self.at = self.last
        self.eventful = True
        text = "the budget was gone"
        self.steps += [Step(link.plugin, SKIPPED, 0.0, text, link.hook) for link in rest]
        for link in rest:
            if link.on_error == "reject":
                self.refuse(link, SKIPPED)
                return

    def undecided(self) -> Decision:
        """Return the decision where ``decision`` is unset after all have been asked."""
        return self.chain.default

    def refuse(self, link: BoundHook, outcome: str) -> None:
        """Decide most restrictively, as the ``on_error`` of a plugin says."""
        reason = f"{link.plugin} {REJECT_REASONS[outcome]}"
        self.decision = self.chain.endpoint.refusal.with_reason(reason)
        self.decided_by = link.plugin


class FoldRun(ChainRun):
    """The state of one call whose answers build on each other.

    They are merged by a chain that merges, and a decision is adjusted by the ``adjusters``. A
    reject, of a plugin or for a failure, ends either part early. Then plugins may narrow it.
    """

    __slots__ = ("adjusted", "by", "draft", "is_adjusting", "was_refused")

    def __init__(self, chain: Chain, request: Request) -> None:
        super().__init__(chain, request)
        self.adjusted = self.was_refused = self.is_adjusting = False
        self.by = DEFAULT
        """The plugin that is named as the one that decided."""
        self.draft = Draft(request)
        if chain.restricting < len(chain.links):
            self.deadline -= chain.budget / 4
        if chain.merges:
            self.check = lambda answer, _: check_merged(chain.endpoint, answer, self.draft)

    def secrets(self) -> list[str]:
        """Return what logs and details must not have, those of the decision so far included."""
        return self.draft.secrets()

    def continues_after(self, link: BoundHook) -> bool:
        """Take the answer of a plugin; return whether the next one shares its task."""
        decision = self.decision
        if self.was_refused or decision is None:
            return False
        if self.is_adjusting:
            goes_on = self._adjust(decision)
        elif self.chain.merges:
            goes_on = self._merge(decision)
        else:
            goes_on = self.begin_next()
        if not goes_on or link.may_wait or self.at == self.last:
            return False
        return not self.chain.links[self.at].may_wait

    def _merge(self, decision: Decision) -> bool:
        """Send the fields that no earlier plugin has given; return whether the chain goes on."""
        if decision.action == "reject":
            return False
        before = self.draft.decision
        known = before.set_fields() if before is not None else {}
        given = tuple(name for name in decision.set_fields() if name not in known)
        self.steps[-1] = msgspec.structs.replace(self.steps[-1], fields=given)
        if before is None or (given and not known):
            self.by = self.decided_by
        self.decided_by = self.by
        self.draft.decision, self.decision = decision, None
        return True

    def _adjust(self, decision: Decision) -> bool:
        """Make an answer the decision so far; return whether the chain goes on."""
        draft, steps = self.draft, self.steps
        before, step = draft.decision, steps.pop()
        assert before is not None
        if decision.action == before.action and self.by != DEFAULT:
            self.decided_by = self.by
        self.by = self.decided_by
        step = AdjustedStep(
            step.plugin, step.outcome, step.ms, "", step.hook, before=before, after=decision
        )
        steps.append(step)
        self.adjusted = True
        draft.decision = decision
        if draft.may_admit:
            draft.protecting = decision
        if self.at == self.last:
            # The end: nothing runs any more that could change what was checked a moment ago.
            return False
        self.decision = None
        return True

    def begin_next(self) -> bool:
        """Ask the adjusters about the decision of a plugin, if there is one, and then those that
        may only narrow it about any; return true if there are some to ask.
        """
        chain, decision = self.chain, self.decision or self.draft.decision
        has_adjusters = chain.deciding < chain.restricting and not self.is_adjusting
        adjusts = has_adjusters and not self.was_refused and decision is not None
        if not adjusts and (self.draft.restricts or chain.restricting == len(chain.links)):
            return False
        self.ask_about(decision or chain.default, self.decided_by, restricts=not adjusts)
        return True

    def ask_about(self, decision: Decision, decided_by: str, *, restricts: bool) -> None:
        """Ask the adjusters about a decision of this plugin, or those that may only narrow it, in
        the time that is kept for them.
        """
        chain = self.chain
        self.is_adjusting = True
        self.check = lambda answer, _: check_adjusted(chain.endpoint, answer, draft)
        self.asked = draft = self.draft
        draft.decision = draft.protecting = decision
        self.at, self.last, self.decision = chain.deciding, chain.restricting, None
        self.by = self.decided_by = decided_by
        if restricts:
            self.was_refused, draft.restricts = False, True
            self.deadline += chain.budget / 4
            self.at, self.last = chain.restricting, len(chain.links)

    def undecided(self) -> Decision:
        """Return the decision of all answers, or the default."""
        return self.draft.decision or self.chain.default

    def refuse(self, link: BoundHook, outcome: str) -> None:
        """End with the most restrictive decision; a reject that a plugin has decided stays."""
        super().refuse(link, outcome)
        self.was_refused = True
        before = self.draft.decision
        if self.is_adjusting and before is not None and before.action == "reject":
            self.decision, self.decided_by = before, self.by
