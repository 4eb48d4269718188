"""A malformed request costs no other one its reply, and is always answered itself."""

import asyncio
import re

import pytest

from tests.support import wire
from tests.support.fake_plugins import Serve, always, plugin
from tests.support.waiting import HANG_S

KEEP = {"Connection": "keep-alive"}
GET = wire.request_bytes(wire.SERVICE, "GET", KEEP)
LAST = wire.request_bytes(wire.SERVICE, "GET", {"Connection": "close"})
WITH_BODY = wire.request_bytes(wire.SERVICE, "GET", {"Content-Length": "5"}) + b"hello"
MALFORMED = [
    b"JUNK\r\n\r\n",
    b"JUNK\r\n\r\n" + GET,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00\x00\x00\x00",
    WITH_BODY,
    wire.request_bytes(wire.SERVICE, "GET", {"Transfer-Encoding": "chunked"}) + b"0\r\n\r\n",
    b"\r\n\r\n\r\n\r\n",
    wire.request_bytes(b"http://xn--" + wire.SERVICE.encode(), "GET", KEEP),
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    b"GET /policy/v1/service/configuration?needle4711=\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /policy/v1/service/configuration?needle4711= b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nneedle4711\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: needle4711\r\n\r\n",
    b"needle4711 / HTTP/1.1\r\nHost: a\r\n\r\n",
]
IGNORED_HOSTS = ["policy.example.com", "[::1]:8080", "[fe80::1%25eth0]", "a..b"]
UNUSABLE_HOSTS = ["xn--", "xn--a", "xn--a:80", "xn--zzzzzzzz--", "a.xn--.example"]


def toy() -> dict[str, type]:
    return {"toy": plugin(service_configuration=always(None))}


async def statuses(port: int, *pieces: bytes) -> list[int]:
    """Send the pieces one after the other; return the status of each reply until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        received = await asyncio.wait_for(reader.read(), HANG_S)
    finally:
        writer.close()
    assert b"needle4711" not in received
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", received)]


@pytest.mark.parametrize("malformed", MALFORMED)
@pytest.mark.parametrize("count", [0, 1, 3])
async def test_requests_before_a_malformed_one_are_answered(
    serving: Serve, malformed: bytes, count: int
) -> None:
    async with serving(toy()) as server:
        assert await statuses(server.port, GET * count + malformed) == [200] * count + [400]
        events = [line["event"] for line in server.lines()]
        assert events == ["decision"] * count + ["refused"]
        assert server.lines()[-1]["reason"] in ("malformed", "request body")
        assert "needle4711" not in server.audit.read_text()
        assert (await server.ask(wire.SERVICE)).status == 200


@pytest.mark.parametrize("malformed", MALFORMED)
async def test_where_the_bytes_are_cut_makes_no_difference(
    serving: Serve, malformed: bytes
) -> None:
    async with serving(toy()) as server:
        for cut in (len(GET) - 1, len(GET), len(GET) + 1, len(GET) + 16):
            content = GET + malformed
            assert await statuses(server.port, content[:cut], content[cut:]) == [200, 400]


@pytest.mark.parametrize("more", [GET, b"JUNK\r\n\r\n", b"GET /", b"\r\n", b"GET /" + b"a" * 40])
async def test_the_last_request_of_a_connection_is_answered_whatever_follows(
    serving: Serve, more: bytes
) -> None:
    async with serving(toy()) as server:
        assert await statuses(server.port, LAST + more) == [200]
        assert [line["event"] for line in server.lines()] == ["decision"]


@pytest.mark.parametrize("host", UNUSABLE_HOSTS + IGNORED_HOSTS)
async def test_a_host_of_a_url_is_ignored_where_it_can_be_decoded(
    serving: Serve, host: str
) -> None:
    async with serving(toy()) as server:
        reply = await server.ask(f"http://{host}{wire.SERVICE}")
        assert reply.status == (400 if host in UNUSABLE_HOSTS else 200)
        assert [line.get("reason") for line in server.lines()] == (
            ["malformed"] if host in UNUSABLE_HOSTS else [None]
        )


@pytest.mark.parametrize("version", ["HTTP/2.0", "HTTP/0.9"])
async def test_another_major_version_is_refused_and_ends_the_connection(
    serving: Serve, version: str
) -> None:
    other = GET.replace(b"HTTP/1.1", version.encode())
    async with serving(toy()) as server:
        assert await statuses(server.port, GET + other + GET) == [200, 505]
        decision, refused = server.lines()
        assert decision["event"] == "decision"
        assert (refused["reason"], refused["status"]) == ("malformed", 505)
