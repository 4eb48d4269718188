"""Comparison of two targets: one answers, the other is called after the reply."""

import asyncio
import logging
from typing import Any

import pytest

from pexpolicy.policy import Policy
from tests.support import fake_plugins, secret_canaries, wire
from tests.support import upstream_broken as broken
from tests.support import upstream_policies as policies
from tests.support import upstream_servers as servers
from tests.support.virtual_time import frozen

ASKED = f"{wire.SERVICE}?call_direction=dial_in&protocol=sip&local_alias=a&request_id=abcd1234"
ROUTES = [{"targets": ["old"], "compare_with": "new"}]


async def settled(made: Policy, count: int = 1) -> Any:
    """Wait for this number of compared calls and return the comparison."""
    while True:
        (found,) = policies.status_of(made)["compared"]
        if found["same"] + sum(found["differing"].values()) + found["failed"] >= count:
            return found
        await asyncio.sleep(0.005)


def two(old: servers.Upstream, new: servers.Upstream, **more: Any) -> Policy:
    return policies.policy({"old": old.url, "new": {"url": new.url, **more}}, ROUTES)


ROOM = {**servers.ROOM, "pin": secret_canaries.PIN}
NOTHING = servers.reply(b"", "404 None")


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        (servers.decided(ROOM), servers.decided(ROOM, reason="why", decided_by="me"), ""),
        (NOTHING, servers.reply({"status": "fail"}), ""),
        (servers.decided(ROOM), servers.decided({**ROOM, "pin": "1234"}), "pin differs"),
        (servers.decided(ROOM), servers.decided(servers.ROOM), "pin differs"),
        (servers.decided(ROOM), servers.decided({**ROOM, "name": "x"}), "name differs"),
        (servers.decided(ROOM), servers.decided(action="reject"), "another action"),
        (servers.decided(ROOM), servers.decided(), "decision and then continue"),
        (servers.decided(ROOM), NOTHING, "decision and then continue"),
        (NOTHING, servers.decided(ROOM), "continue and then decision"),
        # Infinity would use its own database for each of the two.
        (NOTHING, servers.decided(), ""),
    ],
)
async def test_the_first_answers_and_what_differs_is_counted_and_logged_by_name(
    serving: fake_plugins.Serve,
    caplog: pytest.LogCaptureFixture,
    old: bytes,
    new: bytes,
    differs: str,
) -> None:
    async with (
        servers.answering(servers.always(old)) as first,
        servers.answering(servers.always(new)) as second,
    ):
        made = two(first, second)
        async with serving(made) as server:
            reply = await server.ask(ASKED)
            found = await settled(made)
    asked_alone = (await _alone(serving, old)).body
    assert _without_id(reply.body) == _without_id(asked_alone)
    assert found["differing"] == ({differs: 1} if differs else {})
    assert found["same"] == (0 if differs else 1)
    assert first.targets == second.targets == [ASKED.encode()]
    messages = [
        record.getMessage() for record in caplog.records if record.name.startswith("pexpol")
    ]
    if differs:
        expected = f"service_configuration: old and new differ: {differs} (call abcd1234)"
        assert messages == [expected]
    assert secret_canaries.find_canaries(str(messages)) == []


async def _alone(serving: fake_plugins.Serve, answer: bytes) -> wire.Reply:
    async with policies.relaying(serving, answer, name="old") as (server, _):
        return await server.ask(ASKED)


def _without_id(body: bytes) -> bytes:
    head, _, rest = body.partition(b'"decision_id":')
    return head + rest[38:]


COSTLY = ("never answers", "drips its body", "answers five megabytes", "sends a gzip bomb")


@pytest.mark.parametrize("kind", [k for k in broken.KINDS if k.name in COSTLY], ids=str)
async def test_a_broken_server_to_compare_with_costs_the_caller_nothing(
    serving: fake_plugins.Serve, kind: broken.Broken
) -> None:
    async with (
        servers.answering(servers.always(servers.decided(servers.ROOM))) as old,
        servers.behaving(kind.behave) as new,
    ):
        made = two(old, new, timeout=0.3)
        async with serving(made) as server:
            with frozen():
                for _ in range(3):
                    assert (await server.ask(ASKED)).result == servers.ROOM
            assert (await settled(made, 3))["failed"] == 3


async def test_comparisons_that_do_not_keep_up_are_left_out_and_counted(
    serving: fake_plugins.Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    async with (
        servers.answering(servers.always(servers.decided(servers.ROOM))) as old,
        servers.behaving(broken.KINDS[0].behave) as new,
    ):
        made = two(old, new, timeout=4.0)
        async with serving(made) as server:
            for _ in range(70):
                assert (await server.ask(ASKED)).result == servers.ROOM
            (found,) = policies.status_of(made)["compared"]
    assert found["left_out"] == 6


async def test_nothing_is_compared_where_the_first_failed(serving: fake_plugins.Serve) -> None:
    async with (
        servers.answering(servers.always(servers.reply(b"", "503 Busy"))) as old,
        servers.answering(servers.always(servers.decided())) as new,
    ):
        made = two(old, new)
        async with serving(made) as server:
            await server.ask(ASKED)
    assert new.heads == []
