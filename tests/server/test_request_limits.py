"""What a client without credentials can make the server read, hold and compute: next to nothing."""

import asyncio
import gzip
import os
import socket
import time
from collections import deque
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.access import memory
from pexpolicy.access.access_control import AccessControl
from pexpolicy.access.connections import Connection, Stage
from pexpolicy.access.memory import MIB, Watermark, group_limit, resident_bytes
from pexpolicy.access.refusals import RefusalLog
from pexpolicy.config.schema.limits import LimitsTable
from pexpolicy.server.http import acceptor
from pexpolicy.server.http.body_parser import BodyLimit, BodyParser
from pexpolicy.server.http.request_parser import (
    EARLY_BYTES,
    MAX_HEADERS,
    BoundedParser,
    RequestBodyError,
)
from tests.access.test_limits import answered, closed, connected, passes, policy, reasons
from tests.support import fake_plugins, live_server, wire
from tests.support.admin_client import serve_with_admin
from tests.support.waiting import HANG_S

KEEP = {"Connection": "keep-alive"}
GET = wire.request_bytes(wire.SERVICE, "GET", KEEP)
BOMB = gzip.compress(bytes(20_000_000), 9)
BODIES: list[tuple[Mapping[str, str], bytes]] = [
    ({"Content-Length": "5"}, b"12345"),
    ({"Content-Length": "5"}, b""),
    ({"Content-Length": "18446744073709551615"}, b"12345"),
    ({"Content-Length": str(len(BOMB)), "Content-Encoding": "gzip"}, BOMB),
    ({"Transfer-Encoding": "chunked"}, b"1\r\na\r\n" * 1000 + b"0\r\n\r\n"),
    ({"Transfer-Encoding": "gzip, chunked"}, b""),
    ({"Transfer-Encoding": ""}, b""),
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
    serving: fake_plugins.Serve, method: str, headers: Mapping[str, str], body: bytes
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
async def test_a_body_of_no_bytes_is_none(serving: fake_plugins.Serve, length: str) -> None:
    async with serving(policy()) as server:
        reply = await server.ask(wire.SERVICE, headers={"Content-Length": length})
        assert reply.status == 200


@pytest.mark.parametrize("coding", ["identity", "gzip", "chunked, gzip"])
async def test_a_coding_that_has_no_end_is_malformed(
    serving: fake_plugins.Serve, coding: str
) -> None:
    async with serving(policy()) as server:
        reply = await server.ask(wire.SERVICE, headers={"Transfer-Encoding": coding})
        assert (reply.status, reasons(server)) == (400, ["malformed"])


@pytest.mark.parametrize("again", [False, True])
async def test_no_byte_of_a_body_reaches_the_parser(again: bool) -> None:
    parsed: list[bytes] = []

    class Noting:
        def __init__(self, parser: HttpRequestParser) -> None:
            self._parser = parser

            self.message_consumed = parser.message_consumed
            self.set_upgraded = parser.set_upgraded

        def feed_data(self, data: bytes) -> Any:
            parsed.append(data)
            return self._parser.feed_data(data)

    head = wire.request_bytes(wire.SERVICE, "GET", {"Transfer-Encoding": "chunked"})
    bounded = BoundedParser(Noting(_parser()), limit=65536, queued=[], max_queued=32)  # type: ignore[arg-type]
    content = (GET if again else b"") + head + b"1\r\na\r\n" * 100
    if again:
        assert len(bounded.feed_data(content)[0]) == 1
        content = b""
    with pytest.raises(RequestBodyError):
        bounded.feed_data(content)
    assert bounded.feed_data(b"1\r\na\r\n") == ((), False, b"")
    assert b"".join(parsed) == (GET if again else b"") + head


def _parser(**options: Any) -> HttpRequestParser:
    loop = asyncio.get_running_loop()
    given = {"max_line_size": 65536, "max_field_size": 65536, "max_headers": 100, **options}
    return HttpRequestParser(BaseProtocol(loop), loop, 65536, **given)


@given(
    st.lists(st.sampled_from([wire.SERVICE, "/", "/x?" + "y" * 300]), min_size=1, max_size=50),
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
        queued: deque[Any] = deque()
        bounded = BoundedParser(_parser(), limit=16384, queued=queued, max_queued=4)
        paths: list[str] = []
        places = sorted({0, len(content), *(min(cut, len(content)) for cut in cuts)})
        for start, end in pairwise(places):
            messages, upgraded, tail = bounded.feed_data(content[start:end])
            assert (upgraded, tail) == (False, b"")
            queued.extend(messages)
            while queued:
                assert len(queued) <= 4
                paths.append(queued.popleft()[0].path)
                bounded.message_consumed()
                if len(queued) <= 2:
                    queued.extend(bounded.feed_data(b"")[0])
            expected = content[:end].count(b"\r\n\r\n")
            assert len(paths) == expected == bounded.parsed
            assert bounded.is_incomplete == (not content[:end].endswith(b"\r\n\r\n") and end > 0)
        assert paths == targets

    asyncio.run(run())


async def test_a_head_is_bounded_while_it_arrives(serving: fake_plugins.Serve) -> None:
    limit = 8 * 1024
    async with serving(policy(header_bytes=limit, request_seconds=5.0)) as server:
        start = b"GET /x HTTP/1.1\r\nHost: x\r\n"
        async with connected(server) as (reader, writer):
            writer.write(start)
            for _ in range(limit // 100 + 1):
                writer.write(b"X-Attribute: " + b"x" * 85 + b"\r\n")
                await asyncio.sleep(0)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HANG_S)
        assert wire.parse(head).status == 431
        (line,) = server.lines()
        assert (line["reason"], line["status"]) == ("header too large", 431)


@pytest.mark.parametrize(("over", "status"), [(0, 200), (1, 431), (400, 431)])
async def test_a_request_has_a_hundred_headers_at_most(
    serving: fake_plugins.Serve, over: int, status: int
) -> None:
    async with serving(policy()) as server:
        # Host and Connection are two of them.
        headers = {f"X-{number}": "x" for number in range(MAX_HEADERS - 2 + over)}
        assert (await server.ask(wire.SERVICE, headers=headers)).status == status
        assert reasons(server) == (["header too large"] if over else [])


@pytest.mark.parametrize(
    "content", [b"\x16\x03\x01\x02\x00\x01", b"\r\n\r\n" * 3, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
)
async def test_what_is_no_http_is_refused_before_it_ends(
    serving: fake_plugins.Serve, content: bytes
) -> None:
    async with serving(policy(request_seconds=5.0)) as server:
        assert len(b"GET ") < EARLY_BYTES
        assert await asyncio.wait_for(sent(server.port, content), HANG_S) == (400, b"")
        assert reasons(server) == ["malformed"]


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "tcp"])
@pytest.mark.parametrize("together", [False, True])
async def test_a_request_after_one_that_offers_an_upgrade_is_not_half_sent(
    serving: fake_plugins.Serve, protocol: str, together: bool
) -> None:
    async def slow(_: object) -> None:
        await asyncio.sleep(0.1)

    offer = {"Connection": "Upgrade", "Upgrade": protocol}
    first = wire.request_bytes(wire.SERVICE, "GET", offer)
    classes = {"toy": fake_plugins.plugin(service_configuration=slow)}
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


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


@pytest.mark.skipif(resident_bytes() is None, reason="the system does not tell")
@pytest.mark.parametrize("headers", [1, 125])
def test_half_sent_requests_take_little_memory(tmp_path: Path, headers: int) -> None:
    config = live_server.with_audit(live_server.SHIPPED, tmp_path)
    content = b"GET /x HTTP/1.1\r\n" + (b"X: " + b"x" * 32_000 + b"\r\n") * headers
    with live_server.running(config) as server, ExitStack() as held:
        before = _resident(server.pid)
        for number in range(100):
            source = (f"127.0.0.{number + 1}", 0)
            client = socket.create_connection(("127.0.0.1", server.port), 5, source)
            held.enter_context(client)
            with suppress(OSError):
                client.sendall(content)
        time.sleep(0.5)
        assert _resident(server.pid) - before < 20


async def test_above_the_watermark_strangers_are_closed_and_nodes_stay(
    serving: fake_plugins.Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "MIN_UNAUTHENTICATED", 3)
    monkeypatch.setattr(acceptor, "UNAUTHENTICATED_GRACE_S", 60.0)
    async with serving(policy(memory_mb=1)) as server, AsyncExitStack() as on:
        node = await on.enter_async_context(connected(server))
        assert await answered(node)
        strangers = [await on.enter_async_context(connected(server)) for _ in range(8)]
        # The newest ones stay for a moment: one of them may be a node that is about to call.
        for reader, _ in strangers[:5]:
            assert await closed(reader)
        assert await answered(strangers[-1])
        assert not any(reader.at_eof() for reader, _ in strangers[5:])
        await passes(61.0)
        for reader, _ in strangers[5:7]:
            assert await closed(reader)
        assert await answered(node)
        assert await answered(strangers[-1])
    refused = [line for line in server.lines() if line["event"] == "refused"]
    assert {line["reason"] for line in refused} == {"memory limit"}
    assert sum(line.get("times", 1) for line in refused) == 7
    (logged,) = server.log.events
    assert "limits.memory_mb is 1" in logged["event"]
    assert set(logged) == {"event", "consequence"}


async def test_above_the_watermark_a_new_connection_may_be_the_one_that_is_closed() -> None:
    refused: list[str] = []
    errors: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    access = AccessControl()
    accepting = acceptor.Acceptor(
        lambda _: asyncio.Protocol(),
        lambda: access,
        RefusalLog(lambda reason, *_, **__: refused.append(reason)),
        LimitsTable(),
        memory=Watermark(1, fake_plugins.Log(), lambda: 2),
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with accepting.open([listener]):
            for _ in range(acceptor.MIN_UNAUTHENTICATED):
                waiting = Connection("192.0.2.1", loop.time() + HANG_S, lambda: None)
                accepting.connections.add(waiting, Stage.WAITING)
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            assert await closed(reader)
            writer.close()
    assert (refused, errors) == (["memory limit"], [])


async def test_without_a_watermark_nothing_is_closed(serving: fake_plugins.Serve) -> None:
    async with serving(policy(memory_mb=0, request_seconds=5.0)) as server, AsyncExitStack() as on:
        strangers = [await on.enter_async_context(connected(server)) for _ in range(40)]
        await passes(1.2)
        assert [await answered(one) for one in strangers] == [True] * 40
        assert server.log.events == []


def test_the_watermark_is_exceeded_until_memory_is_well_below_it() -> None:
    log, held = fake_plugins.Log(), [0]
    watermark = Watermark(100 * MIB, log, lambda: held[0])
    seen = []
    for mib in (100, 101, 99, 91, 90, 99, 101):
        held[0] = mib * MIB
        watermark.look()
        seen.append(watermark.is_exceeded)
        assert watermark.resident == mib * MIB
    assert seen == [False, True, True, True, False, False, True]
    assert len(log.events) == 2


@pytest.mark.parametrize(
    ("written", "group", "workers", "expected"),
    [
        (200, None, 1, 200 * MIB),
        (200, 400 * MIB, 2, 200 * MIB),
        (0, 400 * MIB, 1, None),
        (None, 400 * MIB, 1, 300 * MIB),
        (None, 400 * MIB, 3, 100 * MIB),
        (None, None, 1, None),
    ],
)
def test_the_watermark_is_written_or_three_quarters_of_what_the_group_may_hold(
    monkeypatch: pytest.MonkeyPatch,
    written: int | None,
    group: int | None,
    workers: int,
    expected: int | None,
) -> None:
    monkeypatch.setattr(memory, "group_limit", lambda: group)
    limits = {} if written is None else {"memory_mb": written}
    settings = fake_plugins.settings(limits=limits)
    assert Watermark.of(settings, fake_plugins.Log(), workers).limit == expected


GROUPS = {
    "of its own": ("0::/a/b", {"a/b/memory.max": "512"}, 512),
    "of the one above": ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": "256"}, 256),
    "the least": ("0::/a/b", {"a/b/memory.max": "512", "memory.max": "256"}, 256),
    "in a container": ("0::/../elsewhere", {"memory.max": "512"}, 512),
    "none": ("0::/a", {"a/memory.max": "max"}, None),
    "version 1": (
        "3:cpu:/b\n4:memory:/a\n0::/",
        {"memory/a/memory.limit_in_bytes": "512", "cpu/b/memory.limit_in_bytes": "1"},
        512,
    ),
    "version 1, none": ("4:memory:/", {"memory/memory.limit_in_bytes": str(2**63 - 4096)}, None),
    "no groups": (None, {}, None),
}


@pytest.mark.parametrize(("listed", "files", "expected"), GROUPS.values(), ids=GROUPS)
def test_the_limit_of_a_control_group_is_found(
    tmp_path: Path, listed: str | None, files: Mapping[str, str], expected: int | None
) -> None:
    if listed is not None:
        (tmp_path / "proc" / "self").mkdir(parents=True)
        (tmp_path / "proc" / "self" / "cgroup").write_text(listed + "\n")
    for name, content in files.items():
        file = tmp_path / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
    assert group_limit(tmp_path / "proc", tmp_path / "groups") == expected


async def test_operators_see_the_memory(tmp_path: Path) -> None:
    config = live_server.with_audit(live_server.SHIPPED, tmp_path, "[limits]\nmemory_mb = 4000\n")
    with live_server.running(config) as server:
        told = server.operator("/status").json["memory"]
    assert told["limit_bytes"] == 4000 * MIB
    assert 20 * MIB < told["resident_bytes"] < 1000 * MIB
    assert told["is_exceeded"] is False


async def test_a_request_that_comes_with_its_body_is_complete() -> None:
    bodies = BodyLimit("/plugins/", 64)
    bounded = BodyParser(_parser(), limit=65536, queued=[], max_queued=32, bodies=bodies)
    content = (
        wire.request_bytes(
            "/plugins/a", "POST", {"Content-Length": "5", "Connection": "keep-alive"}
        )
        + b"hello"
    )
    for _ in range(2):
        assert len(bounded.feed_data(content)[0]) == 1
        assert not bounded.is_incomplete
    bounded.feed_data(content[:-1])
    assert bounded.is_incomplete
    assert len(bounded.feed_data(content[-1:])[0]) == 1
    assert not bounded.is_incomplete
