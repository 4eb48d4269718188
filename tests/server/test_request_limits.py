"""What a client without credentials can make the server read, hold and compute: next to nothing."""

import asyncio
import gzip
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from pexpolicy.access.connections import Connection, ConnectionLimits
from pexpolicy.server.http.bounded_handler import MAX_HEADERS, BoundedHandler
from tests.access.test_limits import answered, connected, policy, reasons
from tests.server.test_reply_batcher import Wire
from tests.support import fake_plugins, wire
from tests.support.admin_client import serve_with_admin
from tests.support.fake_plugins import Serve, plugin
from tests.support.waiting import HANG_S

KEEP = {"Connection": "keep-alive"}
GET = wire.request_bytes(wire.SERVICE, "GET", KEEP)
BOMB = gzip.compress(bytes(4_000_000), 1)
BODIES: list[tuple[Mapping[str, str], bytes]] = [
    ({"Content-Length": "5"}, b"12345"),
    ({"Content-Length": "5"}, b""),
    ({"Content-Length": "18446744073709551615"}, b"12345"),
    ({"Content-Length": str(len(BOMB)), "Content-Encoding": "gzip"}, BOMB),
    ({"Transfer-Encoding": "chunked"}, b"1\r\na\r\n" * 1000 + b"0\r\n\r\n"),
    ({"Transfer-Encoding": "gzip, chunked"}, b""),
    *(({"Transfer-Encoding": coding}, b"") for coding in ("", "identity", "gzip", "chunked, gzip")),
    ({"Connection": "Upgrade", "Upgrade": "websocket", "Content-Length": "5"}, b"12345"),
]


async def sent(port: int, content: bytes) -> tuple[int, bytes]:
    """The status of the reply to the head of a request, and all that follows it; the server has to
    close the connection.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(content)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HANG_S)
        rest = b""
        with suppress(ConnectionError):
            rest = await asyncio.wait_for(reader.read(), HANG_S)
        return wire.parse(head).status, rest
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize(("headers", "body"), BODIES)
async def test_a_request_with_a_body_is_refused_and_ends_the_connection(
    serving: Serve, method: str, headers: Mapping[str, str], body: bytes
) -> None:
    async with serving(policy()) as server:
        content = wire.request_bytes(wire.SERVICE, method, {**KEEP, **headers})
        # What follows the body is never taken for a request.
        assert await sent(server.port, content + body + GET) == (400, b"")
        (line,) = server.lines()
        assert (line["reason"], line["status"]) == ("request body", 400)
        assert (await server.ask(wire.SERVICE)).status == 200


@pytest.mark.parametrize(("headers", "body"), BODIES)
async def test_operators_send_no_body_either(
    tmp_path: Path, headers: Mapping[str, str], body: bytes
) -> None:
    async with serve_with_admin(fake_plugins.policy({}), tmp_path) as server:
        content = wire.request_bytes("/livez", "GET", {**KEEP, **headers})
        assert await sent(server.admin, content + body) == (400, b"")
        assert reasons(server.server) == ["request body"]


@pytest.mark.parametrize("length", ["0", "00"])
async def test_a_body_of_no_bytes_is_none(serving: Serve, length: str) -> None:
    async with serving(policy()) as server:
        reply = await server.ask(wire.SERVICE, headers={"Content-Length": length})
        assert reply.status == 200


class Noting(BoundedHandler):
    """A connection that notes what aiohttp is given."""

    def __init__(self, limits: ConnectionLimits) -> None:
        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            self.fed.append((request.path, await request.read()))
            return web.Response()

        self.fed: list[tuple[str, bytes]] = []
        super().__init__(web.Server(handler), asyncio.get_running_loop(), limits, Connection())
        self.connection_made(Wire())


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([wire.SERVICE, "/", "/x?" + "y" * 300]), min_size=1, max_size=30),
    st.lists(st.integers(0, 9000), max_size=12),
    st.integers(0, 9000),
)
def test_requests_are_the_same_however_they_are_cut(
    targets: list[str], cuts: list[int], left_over: int
) -> None:
    async def run() -> None:
        wired = b"".join(wire.request_bytes(target, "GET", KEEP) for target in targets)
        half = wire.request_bytes("/half", "GET", {"X": "y" * 9000})[:left_over]
        content = wired + half
        handler = Noting(ConnectionLimits(header_bytes=16384, body_bytes=64))
        places = sorted({0, len(content), *(min(cut, len(content)) for cut in cuts)})
        for start, end in pairwise(places):
            handler.data_received(content[start:end])
            for _ in range(5 * len(targets) + 5):
                await asyncio.sleep(0)
            assert handler.parsed == handler.answered == content[:end].count(b"\r\n\r\n")
        assert [path for path, _ in handler.fed] == [t.partition("?")[0] for t in targets]
        assert bytes(handler.received) == half
        handler.connection_lost(None)

    asyncio.run(run())


@pytest.mark.parametrize(("over", "status"), [(0, 200), (1, 431), (400, 431)])
async def test_a_request_has_a_hundred_headers_at_most(
    serving: Serve, over: int, status: int
) -> None:
    async with serving(policy()) as server:
        # Host and Connection are two of them.
        headers = {f"X-{number}": "x" for number in range(MAX_HEADERS - 2 + over)}
        assert (await server.ask(wire.SERVICE, headers=headers)).status == status
        assert reasons(server) == (["header too large"] if over else [])


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"\r\n\r\n" * 3,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT policy.example.com:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused_before_it_ends(serving: Serve, content: bytes) -> None:
    async with serving(policy(), limits={"request_seconds": 5.0}) as server:
        assert await asyncio.wait_for(sent(server.port, content), HANG_S) == (400, b"")
        assert reasons(server) == ["malformed"]


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "tcp"])
@pytest.mark.parametrize("together", [False, True])
async def test_a_request_after_one_that_offers_an_upgrade_is_not_half_sent(
    serving: Serve, protocol: str, together: bool
) -> None:
    async def slow(_: object) -> None:
        await asyncio.sleep(0.1)

    offer = {"Connection": "Upgrade", "Upgrade": protocol}
    first = wire.request_bytes(wire.SERVICE, "GET", offer)
    classes = {"toy": plugin(service_configuration=slow)}
    async with (
        serving(classes, limits={"request_seconds": 0.3}) as server,
        connected(server) as (reader, writer),
    ):
        writer.write(first + GET if together else first)
        await asyncio.sleep(0.05)
        if not together:
            writer.write(GET)
        for _ in range(2):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HANG_S)
            reply = wire.parse(head)
            assert reply.status == 200
            await reader.readexactly(int(reply.headers["content-length"]))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.6)
        assert reasons(server) == []
        assert await answered((reader, writer))
