"""The order of answers where several calls are asked at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from multidict import MultiDict

from pexpolicy.models.outcome import TIMED_OUT
from pexpolicy.replay import answers
from pexpolicy.replay.answers import Answering, Answers
from pexpolicy.replay.records import Call
from pexpolicy.replay.sides import ReplayPolicy
from tests.support.waiting import HANG_S

OTHER = "another record"


@pytest.fixture(autouse=True)
def _always_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take each call for one that has waited."""
    monkeypatch.setattr(answers, "WAIT_S", -1.0)


class Asked:
    """A policy whose answers are made by a function."""

    def __init__(self, answer: Callable[[Call], Awaitable[str]], max_calls: int = 4) -> None:
        self.max_calls = max_calls
        self.policy = SimpleNamespace(abandoned=[])
        self.asked: list[int] = []
        self._answer = answer

    async def answer(self, call: Call) -> Any:
        self.asked.append(call.line)
        outcome = await self._answer(call)
        step = SimpleNamespace(outcome=outcome)
        found = SimpleNamespace(has_slow_or_failed_steps=outcome == TIMED_OUT, steps=[step])
        ours = SimpleNamespace(outcome=found)
        return SimpleNamespace(ours=ours, depends_on_time=False, network="", line=call.line)


def call(line: int, key: bytes = b"") -> Call:
    return Call(line, "service_configuration", "", MultiDict(), key=key)


async def in_order(policy: Asked, records: list[Call | str]) -> list[tuple[int, int, Answers]]:
    """Return for each call its line, that of the call whose answer it gets, and its answers."""
    answering = Answering(cast("ReplayPolicy", policy), None, None, None)
    async with asyncio.timeout(HANG_S):
        found: list[Any] = [one async for one in answering.in_order(records)]
    assert [record for record, _ in found] == records
    assert all((given is None) == isinstance(record, str) for record, given in found)
    return [(record.line, given.new.line, given) for record, given in found if given is not None]


async def test_calls_that_wait_are_asked_at_a_time_and_answered_in_order() -> None:
    four = asyncio.Barrier(4)

    async def answer(asked: Call) -> str:
        if asked.line:
            await four.wait()
            # The first ones of four end last.
            for _ in range(10 - asked.line % 4):
                await asyncio.sleep(0)
        return "decided"

    policy = Asked(answer)
    records: list[Call | str] = [call(0), OTHER, *map(call, range(1, 5)), OTHER, call(5)]
    records += [OTHER, *map(call, range(6, 9))]
    found = await in_order(policy, records)
    assert [(line, of) for line, of, _ in found] == [(n, n) for n in range(9)]


async def test_equal_requests_are_asked_once_also_while_the_first_is_in_progress() -> None:
    async def answer(_: Call) -> str:
        await asyncio.sleep(0)
        return "decided"

    policy = Asked(answer)
    found = await in_order(policy, [call(0), *(call(n, b"equal") for n in range(1, 4)), call(4)])
    assert sorted(policy.asked) == [0, 1, 4]
    assert [of for _, of, _ in found] == [0, 1, 1, 1, 4]


@pytest.mark.parametrize("keys", [(), (b"some", b"others")])
async def test_after_a_late_answer_calls_are_asked_one_at_a_time(keys: tuple[bytes, ...]) -> None:
    running = 0

    async def answer(_: Call) -> str:
        nonlocal running
        running += 1
        for _step in range(5):
            await asyncio.sleep(0)
        is_alone = running == 1
        running -= 1
        return "decided" if is_alone else TIMED_OUT

    policy = Asked(answer)
    # Equal requests do not keep what another one of them got too late.
    records = [call(line, keys[line % 2] if line and keys else b"") for line in range(12)]
    found = await in_order(policy, [*records])
    assert not any(given.is_late for _, _, given in found)
    assert policy.asked[-1] == (1 if keys else 11)


async def test_a_failure_is_raised_and_ends_what_is_in_progress() -> None:
    async def answer(asked: Call) -> str:
        if asked.line == 2:
            raise LookupError
        await asyncio.sleep(0)
        if asked.line > 2:
            await asyncio.Event().wait()
        return "decided"

    with pytest.raises(LookupError):
        await in_order(Asked(answer), [*map(call, range(6))])
