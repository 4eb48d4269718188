"""Who guesses is slowed, each time a little more, and nobody else is."""

import asyncio
import threading
from contextlib import AsyncExitStack
from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.access import access_control, credentials
from pexpolicy.access.credentials import MAX_DELAY_S, RESET_AFTER_S, LoginThrottle
from pexpolicy.builder import build_policy
from pexpolicy.config.secrets import PasswordHash
from pexpolicy.config.settings import Settings
from pexpolicy.policy import Policy
from tests.support import fake_plugins, wire
from tests.support.fake_plugins import Serve
from tests.support.virtual_time import frozen, virtual
from tests.support.waiting import HANG_S, until

GOOD = wire.basic("pexip", "s3cret")
BAD = wire.basic("pexip", "guess")


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("TEST_POLICY_PASSWORD", "s3cret")
    return fake_plugins.settings(auth={"user": "pexip", "password_env": "TEST_POLICY_PASSWORD"})


@pytest.fixture
def guarded(settings: Settings) -> Policy:
    return build_policy(settings, available={})


def test_each_wrong_attempt_waits_longer_up_to_a_bound() -> None:
    attempts = LoginThrottle(lambda: 0.0)
    delays = [attempts.record_failure("192.0.2.1") for _ in range(100)]
    assert all(earlier <= later for earlier, later in pairwise(delays))
    assert 0 < delays[0] < 0.5
    assert delays[-1] == MAX_DELAY_S


def test_attempts_that_are_verified_at_once_wait_for_each_other_and_not_for_another_peer() -> None:
    attempts = LoginThrottle(lambda: 0.0)
    with (
        attempts.attempt("192.0.2.1") as first,
        attempts.attempt("192.0.2.1") as second,
        attempts.attempt("192.0.2.2") as other,
    ):
        assert (first, second, other) == (0, 1, 0)
    with attempts.attempt("192.0.2.1") as again:
        assert again == 0


@pytest.mark.parametrize(
    ("peer", "failures"), [("2001:db8:1:2:ffff::9", 1), ("2001:db8:1:3::1", 0), ("192.0.2.2", 0)]
)
def test_the_addresses_that_one_host_may_choose_from_are_one_peer(peer: str, failures: int) -> None:
    attempts = LoginThrottle(lambda: 0.0)
    attempts.record_failure("2001:db8:1:2::1")
    attempts.record_failure("192.0.2.1")
    assert attempts.failures(peer) == failures


def test_what_was_wrong_is_forgotten_after_a_while() -> None:
    now = [0.0]
    attempts = LoginThrottle(lambda: now[0])
    first = attempts.record_failure("192.0.2.1")
    now[0] = 1.0
    attempts.record_failure("192.0.2.1")
    now[0] = RESET_AFTER_S + 2
    assert attempts.failures("192.0.2.1") == 0
    assert attempts.record_failure("192.0.2.1") == first


@given(st.lists(st.ip_addresses(), max_size=200))
def test_the_memory_is_bounded_and_the_newest_are_kept(peers: list[object]) -> None:
    attempts = LoginThrottle(lambda: 0.0)
    with patch.object(credentials, "MAX_KEPT", 10):
        for peer in peers:
            attempts.record_failure(str(peer))
            assert attempts.failures(str(peer)) > 0
            assert len(attempts._records) <= 10


@virtual
async def test_an_answer_to_a_guess_is_late(guarded: Policy, serving: Serve) -> None:
    loop = asyncio.get_running_loop()
    took = []
    async with serving(guarded) as server:
        for _ in range(8):
            began = loop.time()
            assert (await server.ask(wire.SERVICE, headers=BAD)).status == 401
            took.append(loop.time() - began)
    assert took[0] >= 0.1
    assert took[-1] >= MAX_DELAY_S
    assert all(earlier <= later + 0.1 for earlier, later in pairwise(took))


async def test_a_node_with_the_address_of_a_guesser_is_answered_at_once(
    serving: Serve, guarded: Policy
) -> None:
    async with serving(guarded) as server:
        guesses = [asyncio.create_task(server.ask(wire.SERVICE, headers=BAD)) for _ in range(100)]
        await asyncio.sleep(0.05)
        with frozen():
            for _ in range(20):
                assert (await server.ask(wire.SERVICE, headers=GOOD)).status == 200
        for guess in guesses:
            guess.cancel()
        await asyncio.gather(*guesses, return_exceptions=True)


async def test_who_sends_no_credentials_does_not_guess(serving: Serve, guarded: Policy) -> None:
    async with serving(guarded) as server:
        with frozen():
            for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic !"}) * 10:
                assert (await server.ask(wire.SERVICE, headers=headers)).status == 401


async def test_the_credentials_of_a_connection_may_change(serving: Serve, guarded: Policy) -> None:
    kept = {"Connection": "keep-alive"}
    asked = b"".join(
        wire.request_bytes(wire.SERVICE, "GET", {**kept, **headers})
        for headers in (GOOD, GOOD, BAD, {}, GOOD)
    )
    async with serving(guarded) as server:
        await wire.send(server.port, asked + wire.request_bytes("/livez", "GET", {}))
        statuses = [line["status"] for line in server.lines()]
        assert statuses == [200, 200, 401, 401, 200]


async def test_a_server_that_ends_waits_for_no_guess(serving: Serve, guarded: Policy) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(guarded))
        for _ in range(3):
            await server.ask(wire.SERVICE, headers=BAD)
        guesses = [asyncio.create_task(server.ask(wire.SERVICE, headers=BAD)) for _ in range(20)]
        await asyncio.sleep(0.2)
        with frozen():
            await stack.aclose()
    assert {reply.status for reply in await asyncio.gather(*guesses)} == {401}


async def test_credentials_that_there_is_no_time_to_verify_are_refused_on_record(
    serving: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_control, "BUSY_DELAY_S", 0.05)
    monkeypatch.setattr(credentials, "MAX_QUEUED", 3)
    monkeypatch.setattr(credentials, "MAX_FIRST", 3)
    held = threading.Event()
    matches = PasswordHash.matches
    monkeypatch.setattr(
        PasswordHash, "matches", lambda self, given: held.wait(HANG_S) and matches(self, given)
    )
    hashed = {"user": "pexip", "password_hash": str(PasswordHash.create("s3cret", ln=2))}
    slow = build_policy(fake_plugins.settings(auth={"credentials": [hashed]}), available={})
    async with serving(slow) as server:
        tasks = [asyncio.create_task(server.ask(wire.SERVICE, headers=GOOD)) for _ in range(6)]
        await until(lambda: sum(task.done() for task in tasks) == 3)
        held.set()
        statuses = sorted([(await task).status for task in tasks])
        assert statuses == [200, 200, 200, 429, 429, 429]
        refused = [line for line in server.lines() if line["event"] == "refused"]
        assert {(line["reason"], line["status"]) for line in refused} == {
            ("too many attempts", 429)
        }
