"""A target that fails again and again is left alone for a while, and tried again."""

import asyncio
from typing import Any

import pytest

from pexpolicy import Reject
from pexpolicy.testing import make_request
from pexpolicy_upstream.route import Target, TargetError
from pexpolicy_upstream.settings import TargetSettings
from tests.support import fake_plugins, wire
from tests.support import upstream_broken as broken
from tests.support import upstream_policies as policies
from tests.support import upstream_servers as servers
from tests.support.virtual_time import frozen

ASKED = f"{wire.SERVICE}?call_direction=dial_in&protocol=sip&local_alias=a"
REQUEST = make_request("service_configuration")
AVATAR = make_request("participant_avatar")
BREAKER = {"failures": 3, "window": 30.0, "pause": 10.0}


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _target(url: str, clock: _Clock) -> Target:
    settings = TargetSettings.model_validate({"url": url, "breaker": BREAKER, "timeout": 0.5})
    return Target("theirs", settings, clock)


async def _ask(target: Target, left: float = 1.0) -> str:
    try:
        await target.ask("service_configuration", REQUEST, left)
    except TargetError as error:
        return str(error)
    return ""


async def test_it_opens_after_failures_and_one_call_tries_again_after_the_pause() -> None:
    clock, sick = _Clock(), True
    bad, good = servers.reply(b"", "503 Busy"), servers.decided(servers.ROOM)
    async with servers.answering(lambda _: bad if sick else good) as server:
        target = _target(server.url, clock)
        async with target.connected():
            for _ in range(3):
                assert "503" in await _ask(target)
            assert "breaker is open" in await _ask(target)
            assert target.status()["breaker"] == "open for service_configuration"
            assert len(server.heads) == 3
            clock.now += 10.0
            assert "503" in await _ask(target)
            assert "breaker is open" in await _ask(target)
            clock.now += 10.0
            sick = False
            assert await _ask(target) == ""
            assert await _ask(target) == ""
            assert target.status()["breaker"] == "closed"
    assert {**target.status(), "last_error_at": ""} == {
        "asked": 6,
        "answered": 2,
        "abstained": 0,
        "failed": 4,
        "left_alone": 2,
        "breaker": "closed",
        "last_error": "503: the server failed; Infinity uses its own database",
        "last_error_at": "",
    }


async def test_a_late_reply_in_the_time_that_others_left_over_opens_no_breaker() -> None:
    """A frozen target took the rest of the time, and the next one is healthy."""
    async with servers.behaving(broken.KINDS[0].behave) as server:
        target = _target(server.url, _Clock())
        async with target.connected():
            for is_rest in (True, True, True, False, False, False):
                assert target.status()["breaker"] == "closed"
                with pytest.raises(TargetError, match="no whole reply in time"):
                    await target.ask("service_configuration", REQUEST, 0.01, is_rest=is_rest)
    assert target.status()["breaker"] == "open for service_configuration"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (servers.decided({**servers.ROOM, "pin": "no digits"}), "pin"),
        (servers.reply(b"", "500 Oops"), "500"),
    ],
)
async def test_a_fault_of_one_call_opens_no_breaker(bad: bytes, says: str) -> None:
    async with servers.answering(servers.always(bad)) as server:
        target = _target(server.url, _Clock())
        async with target.connected():
            for _ in range(10):
                assert says in await _ask(target)
    assert target.status()["breaker"] == "closed"


async def test_an_endpoint_that_fails_keeps_no_other_one_from_being_asked() -> None:
    """Rejects arrive although the avatars of the same server fail."""

    def answer(head: bytes) -> bytes:
        failed = b"/participant/avatar/" in head
        return servers.reply(b"", "503 Busy") if failed else servers.decided(action="reject")

    async with servers.answering(answer) as server:
        target = _target(server.url, _Clock())
        async with target.connected():
            for _ in range(3):
                with pytest.raises(TargetError, match="503"):
                    await target.ask("participant_avatar", AVATAR, 1.0)
            with pytest.raises(TargetError, match="breaker is open"):
                await target.ask("participant_avatar", AVATAR, 1.0)
            heard = await target.ask("service_configuration", REQUEST, 1.0)
    assert isinstance(heard.decision, Reject)
    assert target.status()["breaker"] == "open for participant_avatar"


async def test_a_call_that_a_target_fails_at_opens_no_breaker_while_others_are_answered() -> None:
    """Else a caller whose alias makes the server fail would undo its rejects for everybody."""
    clock, sick = _Clock(), True
    bad, good = servers.reply(b"", "503 Busy"), servers.decided(action="reject")
    async with servers.answering(lambda _: bad if sick else good) as server:
        target = _target(server.url, clock)
        async with target.connected():
            sick = False
            assert await _ask(target) == ""
            sick = True
            for _ in range(9):
                assert "503" in await _ask(target)
            sick = False
            assert await _ask(target) == ""
            sick = True
            clock.now += 31.0
            for _ in range(3):
                assert "503" in await _ask(target)
            assert "breaker is open" in await _ask(target)


async def test_a_call_that_is_given_up_counts_as_a_failure() -> None:
    async with servers.behaving(broken.KINDS[0].behave) as server:
        target = _target(server.url, _Clock())
        async with target.connected():
            for _ in range(3):
                asking = asyncio.create_task(_ask(target))
                await asyncio.sleep(0.01)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            assert "breaker is open" in await _ask(target)
    assert "time for all targets" in str(target.status()["last_error"])


async def test_an_open_breaker_costs_the_caller_nothing_and_the_next_target_answers(
    serving: fake_plugins.Serve,
) -> None:
    async with (
        servers.behaving(broken.KINDS[0].behave) as bad,
        servers.answering(servers.always(servers.decided(servers.ROOM))) as good,
    ):
        slow: dict[str, Any] = {"url": bad.url, "timeout": 0.05, "breaker": BREAKER}
        made = policies.policy({"slow": slow, "good": good.url})
        async with serving(made) as server:
            for _ in range(3):
                assert (await server.ask(ASKED)).result == servers.ROOM
            assert all(line["ms"] >= 50 for line in server.lines())
            with frozen():
                for _ in range(5):
                    assert (await server.ask(ASKED)).result == servers.ROOM
    assert len(bad.heads) == 0
    assert policies.status_of(made)["targets"]["slow"]["left_alone"] == 5


async def test_all_targets_share_the_time_of_the_plugin_and_the_late_one_is_named(
    serving: fake_plugins.Serve,
) -> None:
    async with servers.behaving(broken.KINDS[0].behave) as bad:
        target = {"url": bad.url, "timeout": 1.5}
        made = policies.policy({"a": target, "b": target, "c": target}, timeout=2.0)
        async with serving(made) as server:
            await server.ask(ASKED)
    detail = server.details()
    assert "a: no whole reply in time" in detail
    assert "b: no whole reply in time" in detail
    assert "c was not asked: the time was over" in detail
    assert server.steps() == [("upstream", "failed")]
