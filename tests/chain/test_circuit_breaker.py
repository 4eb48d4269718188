"""The circuit breaker: closed, open, half open."""

import asyncio
import re

from hypothesis import given
from hypothesis import strategies as st

from pexpolicy import Conference
from pexpolicy.chain.circuit_breaker import CircuitBreaker
from pexpolicy.testing import make_request
from tests.support import wire
from tests.support.fake_plugins import Log, Serve, plugin, policy
from tests.support.virtual_time import advance, clock, virtual


def test_it_opens_after_its_number_of_failures_in_its_window() -> None:
    breaker = CircuitBreaker(failures=3, window=10.0, pause=5.0)
    for now in (0.0, 1.0):
        breaker.record_failure(now)
    assert breaker.allows_call(1.0)
    breaker.record_failure(2.0)
    assert not breaker.allows_call(2.0)
    assert not breaker.allows_call(6.9)


def test_failures_that_lie_far_apart_do_not_open_it() -> None:
    breaker = CircuitBreaker(failures=3, window=10.0, pause=5.0)
    for now in (0.0, 8.0, 16.0, 24.0):
        breaker.record_failure(now)
        assert breaker.allows_call(now)


def test_after_the_pause_one_call_tries_and_decides() -> None:
    breaker = CircuitBreaker(failures=1, window=10.0, pause=5.0)
    breaker.record_failure(0.0)
    assert breaker.allows_call(5.0)
    assert not breaker.allows_call(5.0)
    breaker.record_failure(5.5)
    assert not breaker.allows_call(10.4)
    assert breaker.state(6.0) == {"open_for": 6.0, "next_attempt_in": 4.5}
    assert CircuitBreaker().state(6.0) is None
    assert breaker.allows_call(10.5)
    breaker.record_success()
    assert breaker.allows_call(10.6)
    assert not breaker.is_open


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), max_size=60))
def test_open_it_lets_one_call_through_a_pause(calls: list[tuple[float, bool]]) -> None:
    breaker = CircuitBreaker(failures=2, window=4.0, pause=2.0)
    now, tried = 0.0, -10.0
    for wait, succeeds in calls:
        now += wait
        was_open = breaker.is_open
        if not breaker.allows_call(now):
            assert was_open
            continue
        if was_open:
            assert now - tried >= 2.0
            tried = now
        if succeeds:
            breaker.record_success()
            assert not breaker.is_open
        else:
            breaker.record_failure(now)
            tried = now if breaker.is_open else tried


def test_a_trial_without_an_outcome_is_followed_by_another_one_after_the_pause() -> None:
    breaker = CircuitBreaker(failures=1, window=10.0, pause=5.0)
    breaker.record_failure(0.0)
    assert breaker.allows_call(5.0)
    assert not breaker.allows_call(9.9)
    assert breaker.allows_call(10.0)


BREAKER = {"flaky": {"breaker": True}}


def flaky() -> tuple[list[object], dict[str, type]]:
    """Return a plugin that fails until there is an answer, and the list for it."""
    answers: list[object] = []

    async def hook(_: object) -> object:
        if not answers:
            raise OSError("down")
        await asyncio.sleep(0.5)
        return answers[0]

    return answers, {"flaky": plugin(service_configuration=hook)}


@virtual
async def test_a_trial_that_was_cancelled_does_not_keep_it_open() -> None:
    answers, classes = flaky()
    served = policy(classes, BREAKER, clock=clock)

    async def ask() -> str:
        answer = await served.answer(make_request("service_configuration"), "id")
        return answer.outcome.steps[0].outcome

    async with served.serving():
        assert [await ask() for _ in range(6)] == [*["failed"] * 5, "skipped"]
        answers.append(Conference(name="Back", service_tag=""))
        advance(31.0)
        trial = asyncio.create_task(ask())
        await asyncio.sleep(0.1)
        trial.cancel()
        await asyncio.wait((trial,))
        advance(31.0)
        assert [await ask() for _ in range(2)] == ["decided", "decided"]


@virtual
async def test_the_audit_shows_it_and_the_plugin_comes_back(serving: Serve) -> None:
    answers, classes = flaky()
    async with serving(classes, BREAKER, clock=clock) as server:
        for expected in (*["failed"] * 5, "skipped", "skipped"):
            await server.ask(wire.SERVICE)
            assert server.steps() == [("flaky", expected)]
        assert "circuit breaker is open" in server.details()
        answers.append(Conference(name="Back", service_tag=""))
        advance(31.0)
        for _ in range(2):
            await server.ask(wire.SERVICE)
            assert server.steps() == [("flaky", "decided")]


@virtual
async def test_its_opening_and_its_closing_are_logged_once() -> None:
    answers, classes = flaky()
    log = Log()
    served = policy(classes, BREAKER, clock=clock, log=log)

    async def ask(times: int) -> None:
        for _ in range(times):
            await served.answer(make_request("service_configuration"), "id")

    async with served.serving():
        await ask(7)
        advance(31.0)
        await ask(1)
        answers.append(Conference(name="Back", service_tag=""))
        advance(31.0)
        await ask(2)
    told = [event for event in log.events if event["event"].startswith("circuit breaker")]
    where = {"plugin": "flaky", "hook": "service_configuration"}
    assert re.fullmatch(r"OSError: down \(test_circuit_breaker\.py:\d+\)", told[0].pop("error"))
    assert told == [
        {"event": "circuit breaker opened", **where, "pause": 30.0},
        {"event": "circuit breaker closed", **where},
    ]
