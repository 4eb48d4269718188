"""A target that is broken costs its callers no more than its timeout, and others nothing."""

import asyncio
import time

import pytest

from tests.support import fake_plugins, wire
from tests.support import upstream_broken as broken
from tests.support import upstream_policies as policies
from tests.support import upstream_servers as servers
from tests.support.virtual_time import frozen

TIMEOUT = 0.4
"""Seconds that the broken target has."""
SLACK = 30.0
"""Seconds more that a call may take on a busy machine; a broken target holds a call for longer."""
NEEDS = {"when": {"local_alias": "needs"}, "targets": ["broken"]}


async def timed(server: fake_plugins.Serving, target: str) -> tuple[float, wire.Reply]:
    began = time.perf_counter()
    reply = await server.ask(target)
    return time.perf_counter() - began, reply


@pytest.mark.parametrize("kind", broken.KINDS, ids=str)
async def test_a_broken_target_costs_its_caller_its_timeout_and_others_nothing(
    serving: fake_plugins.Serve, kind: broken.Broken
) -> None:
    async with (
        servers.behaving(kind.behave) as bad,
        servers.answering(servers.always(servers.decided(servers.ROOM))) as good,
    ):
        made = policies.policy(
            {"broken": {"url": bad.url, "timeout": TIMEOUT}, "good": good.url},
            [NEEDS, {"targets": ["good"]}],
        )
        async with serving(made) as server:
            needing = asyncio.gather(*(timed(server, _of("needs")) for _ in range(2)))
            with frozen():
                others = await asyncio.gather(*(server.ask(_of("others")) for _ in range(4)))
            needed = await needing
        status = policies.status_of(made)["targets"]["broken"]
        steps = [line["steps"][0] for line in server.lines()]
    assert [reply.result for reply in others] == [servers.ROOM] * 4
    for seconds, reply in needed:
        assert seconds < TIMEOUT + SLACK
        # After a failure no further target is asked, and Infinity uses its own database. A target
        # without a decision leaves it to the next route.
        assert (reply.status, reply.action) == (200, "continue")
        assert reply.result == (servers.ROOM if kind.silent else None)
    failed = [step for step in steps if step["outcome"] == "failed"]
    assert all(kind.says in step["detail"] for step in failed), failed
    assert len(failed) == (0 if kind.silent else 2)
    assert status["asked"] == status["abstained" if kind.silent else "failed"] == 2


def _of(alias: str) -> str:
    return f"{wire.SERVICE}?call_direction=dial_in&protocol=sip&local_alias={alias}"


async def test_a_port_without_a_listener_is_a_failed_step(serving: fake_plugins.Serve) -> None:
    async with servers.behaving(broken.sends()) as gone:
        pass
    async with serving(policies.policy({"gone": gone.url})) as server:
        seconds, _ = await timed(server, _of("any"))
    assert seconds < TIMEOUT
    assert ": nothing listens there" in server.details()
    assert "gone: no connection to 127.0.0.1:" in server.details()


async def test_a_redirect_is_not_followed(serving: fake_plugins.Serve) -> None:
    async with servers.answering(servers.always(servers.decided(servers.ROOM))) as elsewhere:
        for status in ("301 Moved", "302 Found", "307 Temporary", "308 Permanent"):
            there = f"Location: {elsewhere.url}{wire.SERVICE}\r\n"
            redirect = servers.reply(b"", status, extra=there)
            async with servers.answering(servers.always(redirect)) as target:
                async with serving(policies.policy({"target": target.url})) as server:
                    assert (await server.ask(_of("any"))).result is None
                assert "redirects are not followed" in server.details()
    assert elsewhere.heads == []


@pytest.mark.parametrize("pause", [0.0, 0.02])
async def test_an_unrequested_reply_is_not_taken_for_the_next_one(
    serving: fake_plugins.Serve, pause: float
) -> None:
    """A target that replies twice: no caller gets the decision of another call."""

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            asked = head.split(b"local_alias=")[1].split(b" ")[0].decode()
            room = servers.decided({**servers.ROOM, "name": asked})
            writer.write(room)
            await writer.drain()
            await asyncio.sleep(pause)
            writer.write(room)

    async with (
        servers.behaving(twice) as target,
        serving(policies.policy({"target": target.url})) as server,
    ):
        for number in range(5):
            reply = await server.ask(_of(f"room{number}"))
            assert reply.result["name"] == f"room{number}"
            await asyncio.sleep(pause * 2)
    assert target.connections == 5


async def test_a_connection_is_used_again_and_one_that_was_closed_costs_no_call(
    serving: fake_plugins.Serve,
) -> None:
    async with (
        servers.answering(servers.always(servers.decided(servers.ROOM))) as reusing,
        servers.behaving(broken.sends(servers.decided(servers.ROOM))) as closing,
    ):
        for target, connections in ((reusing, 1), (closing, 5)):
            async with serving(policies.policy({"target": target.url})) as server:
                for _ in range(5):
                    assert (await server.ask(_of("any"))).result == servers.ROOM
            assert target.connections == connections
