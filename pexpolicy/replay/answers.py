"""The answers to recorded calls, of one configuration or of two, in the order of the records."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NamedTuple, TypeVar

from pexpolicy.models.outcome import BUSY, TIMED_OUT
from pexpolicy.replay.comparison import compare_answers
from pexpolicy.replay.records import Call
from pexpolicy.replay.sides import NodeScripts, Replayed, ReplayPolicy
from pexpolicy.testing.coverage import Coverage

MAX_REMEMBERED = 20_000
"""Different requests whose answers are kept for equal ones."""
MAX_CALLS = 16
"""Calls in progress, once one has waited; fewer where a plugin has fewer threads."""
WAIT_S = 0.02
"""A call that takes longer without using the processor has waited."""
MAX_STUCK_S = 10.0
"""Maximum time to wait until the threads that calls left running have ended."""
Record = TypeVar("Record")
"""A record that is no call to replay."""


class Answers(NamedTuple):
    """The answers to a call."""

    new: Replayed
    old: Replayed | None
    is_settled: bool = False
    """True if later equal requests get the same."""

    @property
    def is_late(self) -> bool:
        """Whether a plugin was late, or had no thread left."""
        return any(
            step.outcome in (TIMED_OUT, BUSY)
            for one in (self.new, self.old)
            if one is not None and one.ours.outcome.has_slow_or_failed_steps
            for step in one.ours.outcome.steps
        )


class Answering:
    """Asks one configuration, or two.

    Calls are asked one after the other, which is quickest where nothing waits. After a call that
    has waited, for a slow plugin, several are asked at a time; their answers are the same.
    """

    def __init__(
        self,
        new: ReplayPolicy,
        old: ReplayPolicy | None,
        coverage: Coverage | None,
        node: NodeScripts | None,
    ) -> None:
        self._new = new
        self._old = old
        self._coverage = coverage
        self._node = node
        self._known: dict[bytes, Answers] = {}
        self._waits = False
        self._max_calls = min(MAX_CALLS, new.max_calls, old.max_calls if old else MAX_CALLS)

    async def in_order(
        self, records: Iterable[Call | Record]
    ) -> AsyncIterator[tuple[Call | Record, Answers | None]]:
        """Yield each record, with its answers if it is a call."""
        batch: list[Call | Record] = []
        calls = 0
        for record in records:
            if batch or self._waits:
                batch.append(record)
                calls += isinstance(record, Call)
                if calls >= self._max_calls:
                    async for answered in self._together(batch):
                        yield answered
                    batch, calls = [], 0
            elif isinstance(record, Call):
                yield record, await self._ask_and_watch(record)
            else:
                yield record, None
        async for answered in self._together(batch):
            yield answered

    async def _ask_and_watch(self, call: Call) -> Answers:
        began, cpu = time.perf_counter(), time.thread_time()
        answers = await self._ask(call, _key(call))
        waited = time.perf_counter() - began - (time.thread_time() - cpu)
        self._waits = waited > WAIT_S and self._max_calls > 1
        return answers

    async def _together(
        self, batch: Sequence[Call | Record]
    ) -> AsyncIterator[tuple[Call | Record, Answers | None]]:
        """Yield the records of a batch; different calls of it are asked at the same time."""
        tasks: dict[int, asyncio.Task[Answers]] = {}
        keys = [_key(record) if isinstance(record, Call) else b"" for record in batch]
        for at, (record, key) in enumerate(zip(batch, keys, strict=True)):
            if isinstance(record, Call) and (not key or key not in keys[:at]):
                tasks[at] = asyncio.create_task(self._ask(record, key))
        try:
            await asyncio.gather(*tasks.values())
        finally:
            for task in tasks.values():
                task.cancel()
        if late := [at for at, task in tasks.items() if task.result().is_late]:
            # Because of the others, perhaps: from now on one is asked at a time.
            self._waits, self._max_calls = False, 1
            await self._threads_returned()
        for at in late:
            del tasks[at]
            self._known.pop(keys[at], None)
        for at, record in enumerate(batch):
            if not isinstance(record, Call):
                yield record, None
            elif at in tasks:
                yield record, tasks[at].result()
            else:
                yield record, await self._ask(record, keys[at])

    async def _threads_returned(self) -> None:
        policies = [one.policy for one in (self._new, self._old) if one is not None]
        until = time.monotonic() + MAX_STUCK_S
        while any(policy.abandoned for policy in policies) and time.monotonic() < until:  # noqa: ASYNC110 - threads end without an event
            await asyncio.sleep(WAIT_S)

    async def _ask(self, call: Call, key: bytes) -> Answers:
        """Return the answers of both configurations.

        Equal requests are asked once. Where they have IDs, which an answer may hold, they are asked
        until two of them in a row get the same.
        """
        known = self._known.get(key)
        if known is not None and known.is_settled:
            return known
        new = await self._answer(self._new, call)
        old = await self._answer(self._old, call) if self._old is not None else None
        if new.depends_on_time or (old is not None and old.depends_on_time):
            return Answers(new, old)
        is_settled = not call.decision_id or (
            known is not None and self._is_same(known.new, new) and self._is_same(known.old, old)
        )
        answers = Answers(new, old, is_settled=is_settled)
        if key:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            self._known[key] = answers
        return answers

    async def _answer(self, policy: ReplayPolicy, call: Call) -> Replayed:
        answer = await policy.answer(call)
        if self._coverage is not None and policy is self._new:
            answer.used = self._coverage.used_by(answer.answer.outcome)
        if self._node is None or answer.network:
            return answer
        return await self._node.follow(call, answer, policy.policy.settings.extras)

    def _is_same(self, before: Replayed | None, after: Replayed | None) -> bool:
        if before is None or after is None:
            return before is after
        return not compare_answers(before.answer, after.answer, self._new.redaction)


def _key(call: Call) -> bytes:
    """Return what equal requests have in common; empty for one that is always asked."""
    if not call.key or call.missing or call.hashed:
        return b""
    parts = (call.endpoint.encode(), (call.peer or "").encode(), call.key)
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).digest()
