"""Faults below HTTP libraries: late, torn, over-long and missing replies; connections."""

import asyncio
import socket
import struct

import pytest
from aiohttp import web

from pexpolicy.conformance.findings import Level, Topic
from pexpolicy.conformance.http_client import MAX_BODY
from pexpolicy.conformance.runner import MAX_FAILURES, StepResult
from tests.conformance.run_flows import found, run_flows
from tests.conformance.servers import Question, serving, speaking, success

WEB = ("web join, v39",)
PLAIN = ("requests without a call",)
CONTENT = b'{"status": "success", "action": "continue"}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def whole(content: bytes = CONTENT, length: int = len(CONTENT), extra: bytes = b"") -> bytes:
    return HEAD + extra + f"Content-Length: {length}\r\n\r\n".encode() + content


def judged(steps: list[StepResult]) -> list[StepResult]:
    return [played for played in steps if played.step != "gave up"]


async def test_a_server_that_hangs_is_late_and_the_test_gives_up() -> None:
    over = asyncio.Event()

    async def hang(_: Question) -> web.StreamResponse:
        await over.wait()
        return success()

    async with serving(hang) as url:
        steps = await run_flows(url, WEB, limit=0.05)
        over.set()
    assert {f.topic for f in found(judged(steps))} == {Topic.TIME}
    assert len(steps) == MAX_FAILURES + 1
    assert "the rest was not sent" in found(steps[-1:])[0].text


async def test_a_body_that_never_ends_is_late() -> None:
    async with speaking(lambda _: whole(length=1000), hangs=True) as url:
        steps = await run_flows(url, WEB, limit=0.05)
    assert {f.topic for f in found(judged(steps))} == {Topic.TIME}


async def test_a_connection_that_ends_without_a_reply_is_none() -> None:
    async with speaking(lambda _: b"", closes=True) as url:
        steps = await run_flows(url, WEB)
    assert {f.topic for f in found(steps)} == {Topic.CONNECTION}


async def test_what_is_no_http_is_no_reply() -> None:
    async with speaking(lambda _: b"220 mail.example.com ESMTP\r\n\r\n", closes=True) as url:
        steps = await run_flows(url, WEB)
    assert {f.topic for f in found(judged(steps))} == {Topic.FRAMING}
    assert not any("ESMTP" in f.text for f in found(steps))


async def test_a_body_that_is_shorter_than_it_says_is_torn() -> None:
    async with speaking(lambda _: whole(length=1000), closes=True) as url:
        steps = await run_flows(url, WEB)
    assert {f.topic for f in found(judged(steps))} == {Topic.FRAMING}


async def test_a_body_that_is_longer_than_announced_is_seen_after_the_reply() -> None:
    content = CONTENT + b" and more"
    async with speaking(lambda _: whole(content)) as url:
        steps = await run_flows(url, WEB)
    assert {f.topic for f in found(judged(steps))} == {Topic.FRAMING}
    assert "longer than announced" in found(steps)[0].text


async def test_a_body_without_end_is_not_read_to_its_end() -> None:
    async with serving(lambda _: web.Response(body=b" " * (MAX_BODY + 1))) as url:
        steps = await run_flows(url, WEB)
    assert {f.topic for f in found(judged(steps))} == {Topic.FRAMING}


@pytest.mark.parametrize("said", [b"Connection: close\r\n", b"Connection: Close\r\n"])
async def test_a_connection_that_is_closed_as_announced_is_fine(said: bytes) -> None:
    async with speaking(lambda _: whole(extra=said), closes=True) as url:
        steps = await run_flows(url, PLAIN)
    assert not found(steps)
    assert not found(steps, Level.WARNING)


async def test_http_1_0_without_a_length_is_fine() -> None:
    reply = whole().replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Content-Length", b"X-Length")
    async with speaking(lambda _: reply, closes=True) as url:
        steps = await run_flows(url, PLAIN)
    assert not found(steps)
    assert not found(steps, Level.WARNING)


async def test_chunks_are_fine() -> None:
    size = f"{len(CONTENT):x}\r\n".encode()
    reply = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + size + CONTENT + b"\r\n0\r\n\r\n"
    async with speaking(lambda head: reply if head.startswith(b"GET") else whole(b"")) as url:
        steps = await run_flows(url, PLAIN)
    assert not found(steps)
    assert not found(steps, Level.WARNING)


async def test_a_server_that_dies_midway_is_a_violation_and_not_unreachable() -> None:
    async def die(question: Question) -> web.StreamResponse:
        if question.number > 3:
            assert question.request.transport is not None
            question.request.transport.abort()
        return success(action="continue")

    async with serving(die) as url:
        steps = await run_flows(url, WEB)
    assert not found(steps[:3])
    assert {f.topic for f in found(steps)} == {Topic.CONNECTION}


async def test_a_connection_that_is_reset_is_reported_in_words() -> None:
    async def reset(question: Question) -> web.StreamResponse:
        transport = question.request.transport
        if question.number > 4:
            assert transport is not None
            linger = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger
            )
            transport.abort()
        return success(action="continue")

    async with serving(reset) as url:
        steps = await run_flows(url, PLAIN)
    assert [f.text for f in found(steps)] == ["no reply: the server closed the connection"]
