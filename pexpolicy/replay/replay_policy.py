"""One configuration during a replay: it answers recorded calls at their times."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path

from pexpolicy.audit.redaction import Redaction, redaction_of
from pexpolicy.builder import policy_from
from pexpolicy.config.build_options import BuildOptions
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.explain.coverage import CoverageItem
from pexpolicy.models.outcome import ANSWERED, TIMED_OUT
from pexpolicy.plugins.plugin import BuiltPlugin
from pexpolicy.policy import Answer, Policy
from pexpolicy.replay.network_block import NetworkBlock
from pexpolicy.replay.parameter_reads import watch
from pexpolicy.replay.records import Call

NO_ID = "00000000-0000-7000-8000-000000000000"
"""The decision ID of a call whose record has none; equal replays have equal replies."""


class Moment:
    """The time of a record, and whether it was read."""

    __slots__ = ("at", "was_read")

    def __init__(self, at: float | None) -> None:
        self.at = at
        self.was_read = False


_MOMENT: ContextVar[Moment | None] = ContextVar("pexpolicy_replayed_moment", default=None)
"""Set for each call; its tasks and threads inherit it, so that calls may be asked meanwhile."""


class ReplayClock:
    """A wall clock at the time of the record that is being replayed."""

    def __call__(self) -> float:
        """Return seconds since 1970."""
        moment = _MOMENT.get()
        if moment is None:
            return time.time()
        moment.was_read = True
        return time.time() if moment.at is None else moment.at


class ReplayPolicy:
    """A policy that answers recorded calls."""

    def __init__(self, policy: Policy, block: NetworkBlock | None) -> None:
        self.policy = policy
        self.redaction: Redaction = redaction_of(policy.settings)
        self.max_calls = min(map(_max_calls, policy.plugins), default=sys.maxsize)
        """The calls that may be asked at a time without one having to wait for another."""
        self._block = block

    async def answer(self, call: Call) -> Replayed:
        """Return the answer to a call, and what it depends on.

        On a busy machine a plugin may be late that is not late otherwise, so it is asked again.
        """
        found = await self._answer(call)
        steps = found.answer.outcome.steps if found.answer.outcome.has_slow_or_failed_steps else ()
        if not found.network and any(step.outcome == TIMED_OUT for step in steps):
            return await self._answer(call)
        return found

    async def _answer(self, call: Call) -> Replayed:
        request = ENDPOINTS[call.endpoint].parse(call.params, call.alias)
        request.set_origin(lambda: call.url, call.peer)
        watched = (*call.missing, *call.hashed)
        reads = watch(request, watched) if watched else None
        moment = Moment(call.at)
        _MOMENT.set(moment)
        answer = await self.policy.answer(request, call.decision_id or NO_ID)
        network = ""
        if self._block is not None and answer.outcome.has_slow_or_failed_steps:
            network = next(
                (
                    step.plugin
                    for step in answer.outcome.steps
                    if step.plugin in self._block.plugins and step.outcome not in ANSWERED
                ),
                "",
            )
        read: frozenset[str] = frozenset()
        if reads is not None:
            read = frozenset(reads.read)
            if "alias" in call.hashed:
                read |= {"alias"}
        return Replayed(answer, read, network, depends_on_time=moment.was_read)


class Replayed:
    """The answer to a recorded call."""

    __slots__ = (
        *("answer", "depends_on_time", "network", "ours", "read", "unknown", "used", "verdict"),
    )

    def __init__(
        self,
        answer: Answer,
        read: frozenset[str],
        network: str,
        *,
        depends_on_time: bool,
        ours: Answer | None = None,
        verdict: str = "",
        unknown: str = "",
    ) -> None:
        self.answer = answer
        """The answer that takes effect."""
        self.read = read
        """The missing parameters that were read."""
        self.depends_on_time = depends_on_time
        self.network = network
        """A plugin that would have asked the network, or empty."""
        self.ours = ours or answer
        """The answer of the server, which a script of the node may have changed."""
        self.verdict = verdict
        """What the node made of the output of its script."""
        self.unknown = unknown
        """Why the answer that takes effect is not known."""
        self.used: Sequence[CoverageItem] = ()
        """What the server decided by, with coverage."""


@asynccontextmanager
async def opened(path: Path, block: NetworkBlock | None) -> AsyncIterator[ReplayPolicy]:
    """Build a configuration and open it for a replay; raise ``ConfigError``.

    With a ``block`` its plugins cannot connect to anything.
    """
    options = BuildOptions(is_repeatable=True, wall_clock=ReplayClock())
    with block.active() if block is not None else nullcontext():
        policy = policy_from(path, options=options)
        async with policy.serving():
            yield ReplayPolicy(policy, block)


def _max_calls(plugin: BuiltPlugin) -> int:
    if plugin.is_isolated:
        return plugin.table.processes
    return plugin.table.threads if plugin.threads is not None else sys.maxsize
