"""Requests that are refused before their connection has a protocol."""

import asyncio
import socket
from contextlib import ExitStack

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.access.connections import Connection, Connections
from pexpolicy.access.refusals import RefusalLog
from pexpolicy.server.http.early_refusal import EarlyRefusal
from pexpolicy.server.http.malformed import refusal_of
from pexpolicy.server.http.request_parser import MAX_HEADERS, BoundedParser
from pexpolicy.server.http.start_queue import StartQueue, is_whole_head
from tests.support.waiting import HANG_S

HEADER_BYTES = 65536
LINES = [
    *(b"GET /x HTTP/1.1", b"POST /policy/v1/registrations?q=a HTTP/1.0"),
    *(b"GET http://h/x HTTP/1.1", b"GET /x HTTP/2.0", b"GET /x", b"get /x HTTP/1.1"),
    *(b"GET  /x HTTP/1.1", b"GET http://xn--/ HTTP/1.1"),
]
HEADERS = [
    *(b"Host: x", b"Content-Length: 5", b"content-length:007", b"Content-Length: 0"),
    *(b"Content-Length: +5", b"Content-Length: 5, 5", b"Content-Length:", b"Content-Length : 5"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked ", b"Transfer-Encoding: gzip"),
    *(b"X-Content-Length: 5", b"X: a\r\n Content-Length: 5", b"Content-Length: 9" * 20),
    *(
        b"Expect: 100-continue",
        b"Upgrade: websocket\r\nConnection: Upgrade",
        b"A: \xff\x00",
        b"\tB: c",
    ),
]
"""Right and wrong ones, also of the same name."""


def head(line: bytes, headers: list[bytes]) -> bytes:
    """Return a request head."""
    return b"\r\n".join([line, *headers, b"", b""])


def parsed_status(content: bytes) -> int | None:
    """Return the status with which the parser refuses a head, if it does."""

    async def run() -> int | None:
        loop = asyncio.get_running_loop()
        parser = HttpRequestParser(
            BaseProtocol(loop),
            loop,
            HEADER_BYTES,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
            max_headers=MAX_HEADERS,
        )
        bounded = BoundedParser(parser, limit=HEADER_BYTES, queued=[], max_queued=9)
        try:
            bounded.feed_data(content)
        except HttpProcessingError as error:
            return refusal_of(error, 400)[1]
        return None

    return asyncio.run(run())


def early(refusals: RefusalLog | None = None) -> EarlyRefusal:
    """Return a refusal; without a log it can only say whether it applies."""
    return EarlyRefusal(refusals or RefusalLog(lambda *_, **__: None), HEADER_BYTES)


@given(st.sampled_from(LINES), st.lists(st.sampled_from(HEADERS), max_size=6))
def test_what_is_refused_early_is_refused_by_the_parser_too(
    line: bytes, headers: list[bytes]
) -> None:
    content = head(line, headers)
    if early().find(content) is not None:
        assert parsed_status(content) == 400


@given(st.sampled_from(LINES), st.lists(st.sampled_from(HEADERS), max_size=6))
def test_a_head_that_is_refused_for_its_size_is_refused_by_the_parser_too(
    line: bytes, headers: list[bytes]
) -> None:
    content = head(line, [*headers, b"X: " + b"x" * HEADER_BYTES])[:-2]
    if early().find(content) is not None:
        assert parsed_status(content) == 431


@pytest.mark.parametrize("line", LINES[:3])
@pytest.mark.parametrize("header", HEADERS[1:3] + HEADERS[8:10])
def test_a_body_is_recognized(line: bytes, header: bytes) -> None:
    content = head(line, [HEADERS[0], header])
    assert early().find(content) is not None
    assert early().find(content + b"a body\r\n\r\n") is not None
    assert early().find(content[:-1]) is None


@pytest.mark.parametrize(
    "content",
    [
        head(LINES[0], HEADERS[:1]),
        head(LINES[0], HEADERS[:1]) + head(LINES[0], HEADERS[:2]),
        head(LINES[0], [HEADERS[0], b"X: " + b"x" * HEADER_BYTES, HEADERS[1]]),
        head(LINES[0], [HEADERS[1], *[b"X: x"] * MAX_HEADERS, HEADERS[0]]),
        *(head(line, HEADERS[:2]) for line in LINES[3:7]),
    ],
)
def test_all_else_is_left_to_the_parser(content: bytes) -> None:
    assert early().find(content) is None


@pytest.mark.parametrize("size", [HEADER_BYTES, HEADER_BYTES + 1])
def test_a_head_may_be_as_large_as_the_limit(size: int) -> None:
    content = b"GET /x HTTP/1.1\r\nX: ".ljust(size, b"x")
    assert (early().find(content) is not None) == (size > HEADER_BYTES)


FAULTS = {
    "request body": (head(LINES[1], HEADERS[:2]) + b"a body", b"400 Bad Request"),
    "header too large": (
        b"GET /x HTTP/1.1\r\nX: ".ljust(HEADER_BYTES + 1, b"x"),
        b"431 Request Header Fields Too Large",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_client_gets_the_reply_and_costs_no_protocol(fault: str) -> None:
    content, status = FAULTS[fault]
    with ExitStack() as stack:
        started: list[Connection] = []
        connections = Connections(10, 10)
        refusals = RefusalLog(lambda *_, **__: None)
        queue = StartQueue(
            lambda connection, _: started.append(connection),
            lambda *_: None,
            60.0,
            is_whole_head,
            1,
            early(refusals).find,
        )
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = stack.enter_context(socket.create_connection(listener.getsockname()))
        accepted = stack.enter_context(listener.accept()[0])
        accepted.setblocking(False)
        client.sendall(content)
        connection = Connection("192.0.2.1", asyncio.get_running_loop().time(), accepted.close)
        connections.add(connection)
        queue.put(connection, accepted)
        async with asyncio.timeout(HANG_S):
            while len(connections):  # noqa: ASYNC110 - of one turn
                await asyncio.sleep(0)
        reply = client.recv(4096)
        assert reply.startswith(b"HTTP/1.1 " + status + b"\r\nServer: pexpolicy\r\n")
        assert b"\r\nConnection: close\r\n" in reply
        assert reply.endswith(b"\r\n\r\n")
        assert client.recv(4096) == b""
        assert (started, accepted.fileno()) == ([], -1)
        assert refusals.counts == {fault: 1}
        refusals.end()
