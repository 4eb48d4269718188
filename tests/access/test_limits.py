"""Limits of headers, connections and patience: who keeps the server waiting is cut off."""

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy import Directory, DirectoryEntry
from pexpolicy.access.connections import (
    MAX_BUFFERED,
    AuthenticatedRequest,
    Connection,
    ConnectionLimitError,
    ConnectionLimits,
    Connections,
)
from pexpolicy.access.credentials import Credentials
from pexpolicy.builder import build_policy
from pexpolicy.policy import Policy
from pexpolicy.server.http import listener
from tests.support import wire
from tests.support.fake_plugins import Serve, Serving, always, plugin, settings
from tests.support.virtual_time import skip
from tests.support.waiting import HANG_S, until

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
KEPT = wire.request_bytes(wire.SERVICE, "GET", {"Connection": "keep-alive"})
LIMIT = 10.0
"""Time for a request; it passes only when a test moves the clock."""
ADMITTED = AuthenticatedRequest(None, b"", None, "")


def policy() -> Policy:
    return build_policy(settings(), available={})


@asynccontextmanager
async def connected(server: Serving, of: str = "127.0.0.1") -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=(of, 0))
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def closed(reader: asyncio.StreamReader) -> bool:
    """Return true when the server has closed a connection without a reply."""
    with suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), HANG_S) == b""
    return True


async def passes(seconds: float) -> None:
    """Move the clock once the server has read what was sent, and let it act on that."""
    for _ in range(20):
        await asyncio.sleep(0)
    skip(seconds)
    for _ in range(20):
        await asyncio.sleep(0)


async def answered(streams: Streams, asked: bytes = KEPT) -> bool:
    reader, writer = streams
    writer.write(asked)
    with suppress(ConnectionError):
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HANG_S)
        length = int(wire.parse(head).headers["content-length"])
        await reader.readexactly(length)
        return head.startswith(b"HTTP/1.1 200")
    return False


def reasons(server: Serving) -> list[str]:
    return [line["reason"] for line in server.lines() if line["event"] == "refused"]


def head_of(size: int, count: int) -> bytes:
    """The head of a request of so many bytes and so many headers of equal size."""
    names = [f"X-{number}" for number in range(count)]
    room = size - len(wire.request_bytes(wire.SERVICE, "GET", dict.fromkeys(names, "")))
    headers = dict.fromkeys(names, "x" * (room // count))
    headers[names[0]] += "x" * (room % count)
    content = wire.request_bytes(wire.SERVICE, "GET", headers)
    assert len(content) == size
    return content


@pytest.mark.parametrize("start", [b"G", b"GET / HTTP/1.1\r\n", KEPT[:-2], KEPT[:-1]])
async def test_what_is_half_sent_is_cut_off_with_a_line(serving: Serve, start: bytes) -> None:
    async with serving(policy()) as server, connected(server) as (reader, writer):
        writer.write(start)
        await passes(LIMIT * 0.9)
        assert server.lines() == []
        await passes(LIMIT * 0.2)
        assert await closed(reader)
        (line,) = server.lines()
        assert (line["reason"], line["status"]) == ("request timeout", 408)


async def test_dripping_does_not_help(serving: Serve) -> None:
    async with serving(policy()) as server, connected(server) as (reader, writer):
        for byte in KEPT:
            writer.write(bytes([byte]))
            await passes(LIMIT / 8)
            if reasons(server):
                break
        assert await closed(reader)
        assert reasons(server) == ["request timeout"]


async def test_silence_is_closed_and_is_no_refusal(serving: Serve) -> None:
    async with serving(policy()) as server, connected(server) as (reader, _):
        await passes(LIMIT + 1)
        assert await closed(reader)
        assert server.lines() == []


@pytest.mark.parametrize("pipelined", [1, 20])
async def test_a_node_may_be_silent_for_long_between_two_calls(
    serving: Serve, pipelined: int
) -> None:
    async with serving(policy()) as server, connected(server) as streams:
        for _ in range(3):
            streams[1].write(KEPT * pipelined)
            assert all([await answered(streams, b"") for _ in range(pipelined)])
            await passes(LIMIT * 1.5)
        assert reasons(server) == []


async def test_a_node_that_stops_within_a_request_is_cut_off_too(serving: Serve) -> None:
    async with serving(policy()) as server, connected(server) as (reader, writer):
        assert await answered((reader, writer))
        await passes(LIMIT * 0.7)
        writer.write(KEPT[:10])
        await passes(LIMIT * 0.9)
        assert reasons(server) == []
        await passes(LIMIT * 0.2)
        assert await closed(reader)
        assert reasons(server) == ["request timeout"]


async def test_who_was_not_admitted_may_not_stay(
    serving: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_POLICY_PASSWORD", "s3cret")
    auth = {"user": "pexip", "password_env": "TEST_POLICY_PASSWORD"}
    guarded = build_policy(settings(auth=auth), available={})
    async with serving(guarded) as server, connected(server) as (reader, writer):
        writer.write(KEPT)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401")
        await passes(LIMIT + 1)
        assert await closed(reader)


async def test_a_slow_call_is_no_slow_client(serving: Serve) -> None:
    asked, released = asyncio.Event(), asyncio.Event()

    async def slow(_: object) -> None:
        asked.set()
        await released.wait()

    classes = {"toy": plugin(service_configuration=slow)}
    async with (
        serving(classes, limits={"request_seconds": 1.0}) as server,
        connected(server) as streams,
    ):
        reply = asyncio.create_task(answered(streams))
        await asked.wait()
        await passes(2.0)
        released.set()
        assert await reply


async def test_who_does_not_read_its_replies_is_cut_off(serving: Serve) -> None:
    entries = [DirectoryEntry(alias=f"a{n}", description="A" * 200) for n in range(1000)]
    classes = {"toy": plugin(directory_information=always(Directory(entries=entries)))}
    request = wire.request_bytes(wire.DIRECTORY, "GET", {"Connection": "keep-alive"})
    async with (
        serving(classes, limits={"request_seconds": 0.5}) as server,
        connected(server) as (_, writer),
    ):
        transport = writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        writer.write(request * 100)
        await until(lambda: reasons(server))
        assert reasons(server) == ["write timeout"]
        # What is not read is not computed either: the server waits for the client.
        assert len(server.lines()) < 50
        transport.abort()


@pytest.mark.parametrize("limit", [8 * 1024, 32 * 1024, 64 * 1024])
@pytest.mark.parametrize("over", [-1, 0, 1])
@pytest.mark.parametrize("count", [1, 10])
async def test_the_headers_are_as_long_as_the_limit_and_no_longer_in_sum(
    serving: Serve, limit: int, over: int, count: int
) -> None:
    async with serving(policy(), limits={"header_bytes": limit}) as server:
        reply = await wire.send(server.port, head_of(limit + over, count))
        assert reply.status == (431 if over > 0 else 200)
        assert reasons(server) == (["header too large"] if over > 0 else [])


@pytest.mark.parametrize("limit", [8 * 1024, 32 * 1024, 64 * 1024])
@pytest.mark.parametrize("over", [-1, 0, 1])
async def test_a_target_is_as_long_as_the_limit_and_no_longer(
    serving: Serve, limit: int, over: int
) -> None:
    start = wire.SERVICE + "?idp_attribute_x="
    target = start + "x" * (limit - len(wire.request_bytes(start, "GET", {})) + over)
    async with serving(policy(), limits={"header_bytes": limit}) as server:
        assert (await server.ask(target)).status == (431 if over > 0 else 200)
        assert reasons(server) == (["header too large"] if over > 0 else [])


async def test_a_stranger_makes_room_for_the_next_connection(serving: Serve) -> None:
    async with serving(policy(), limits={"per_peer": 3}) as server, AsyncExitStack() as stack:
        node = await stack.enter_async_context(connected(server))
        assert await answered(node)
        strangers = [await stack.enter_async_context(connected(server)) for _ in range(2)]
        await asyncio.sleep(0.05)
        newest = await stack.enter_async_context(connected(server))
        assert await answered(newest)
        assert await closed(strangers[0][0])
        assert await answered(node)
        assert reasons(server) == ["connection evicted"]


async def test_where_all_connections_are_those_of_nodes_a_further_one_is_refused(
    serving: Serve,
) -> None:
    async with serving(policy(), limits={"total": 2}) as server, AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(connected(server)) for _ in range(2)]
        assert [await answered(node) for node in nodes] == [True, True]
        reader, _ = await stack.enter_async_context(connected(server))
        assert await closed(reader)
        assert [await answered(node) for node in nodes] == [True, True]
        assert reasons(server) == ["too many connections"]


async def test_a_named_proxy_stands_for_many(serving: Serve) -> None:
    tables: dict[str, Any] = {"access": {"trusted_proxies": ["127.0.0.1"]}}
    behind = build_policy(settings(**tables), available={})
    async with serving(behind, limits={"per_peer": 1}) as server, AsyncExitStack() as stack:
        for _ in range(5):
            assert await answered(await stack.enter_async_context(connected(server)))


async def test_without_descriptors_the_server_waits_and_goes_on(serving: Serve) -> None:
    async with (
        serving(policy(), limits={"request_seconds": 1.0}) as server,
        AsyncExitStack() as stack,
    ):
        streams = await stack.enter_async_context(connected(server))
        assert await answered(streams)
        client = stack.enter_context(socket.socket())
        with descriptors(client.fileno() + 1):
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", server.port))
            assert await answered(streams)
        waiting = await asyncio.open_connection(sock=client)
        assert await answered(waiting)
        waiting[1].close()


async def test_without_descriptors_strangers_make_room_for_a_node(serving: Serve) -> None:
    async with serving(policy()) as server, AsyncExitStack() as stack:
        node = await stack.enter_async_context(connected(server))
        assert await answered(node)
        stranger = await stack.enter_async_context(connected(server))
        await asyncio.sleep(0)
        with socket.socket() as client, descriptors(client.fileno() + 1):
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", server.port))
            newest = await asyncio.open_connection(sock=client)
            assert await answered(newest)
            assert await closed(stranger[0])
            assert await answered(node)
            newest[1].close()
            await newest[1].wait_closed()
        assert reasons(server) == ["connection evicted"]


@contextmanager
def descriptors(limit: int) -> Iterator[None]:
    """Leave this process no free descriptor below a limit, and none from it on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY)]
    while taken[-1] < limit:
        taken.append(os.open("/dev/null", os.O_RDONLY))
    os.close(taken.pop())
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in taken:
            os.close(number)


MOVES = st.lists(
    st.tuples(st.sampled_from(["enter", "admit", "leave"]), st.integers(0, 3), st.integers(0, 9)),
    max_size=60,
)


@given(MOVES, st.integers(1, 6), st.integers(1, 6))
def test_the_counts_are_those_of_the_open_connections(
    moves: list[tuple[str, int, int]], total: int, per_peer: int
) -> None:
    evicted: list[Connection] = []
    limits = ConnectionLimits(total=total, per_peer=per_peer)
    connections = Connections(limits, evicted.append, lambda: 0.0)
    held: list[Connection] = []
    for move, peer, number in moves:
        if move == "enter":
            evicted.clear()
            closed_ones: list[Connection] = []
            new = Connection(f"10.0.0.{peer}")
            for one in held:
                one.close = partial(closed_ones.append, one)
            try:
                connections.add(new)
            except ConnectionLimitError:
                full = [one for one in held if one.peer == new.peer]
                crowd = full if len(full) >= per_peer else held
                assert all(one.admission for one in crowd)
                continue
            assert closed_ones == evicted
            for one in evicted:
                assert one.admission is None
                held.remove(one)
            held.append(new)
        elif held:
            one = held[number % len(held)]
            if move == "admit":
                one.admit(object())  # type: ignore[arg-type]
            else:
                one.ended()
                one.ended()
                held.remove(one)
        assert len(connections) == len(held) <= total
        assert all(sum(o.peer == one.peer for o in held) <= per_peer for one in held)


async def test_a_flood_of_refused_connections_leaves_few_lines_that_count_them_all(
    serving: Serve,
) -> None:
    kept_out = build_policy(settings(access={"networks": ["192.0.2.0/24"]}), available={})
    async with serving(kept_out) as server:
        for number in range(300):
            async with connected(server, f"127.0.0.{1 + number % 2}") as (reader, _):
                assert await closed(reader)
    lines = server.lines()
    assert len(lines) < 30
    for peer in ("127.0.0.1", "127.0.0.2"):
        assert sum(line.get("times", 1) for line in lines if line["peer"] == peer) == 150
    assert {line["reason"] for line in lines} == {"network not allowed"}


def add(connections: Connections, peer: str) -> Connection:
    connection = Connection(peer)
    connections.add(connection)
    return connection


def test_the_oldest_connection_without_an_admitted_call_is_evicted() -> None:
    evicted: list[Connection] = []
    limits = ConnectionLimits(total=4, per_peer=3)
    connections = Connections(limits, evicted.append, lambda: 0.0)
    add(connections, "10.0.0.1").admit(ADMITTED)
    first, second, third = (add(connections, "10.0.0.2") for _ in range(3))
    first.wait()  # its request was refused, so the others wait longer now
    fourth, fifth = (add(connections, "10.0.0.3") for _ in range(2))
    assert evicted == [second, third]
    for one in (first, fourth):
        one.hold()
    last = add(connections, "10.0.0.4")
    assert evicted == [second, third, fifth]
    last.hold()
    with pytest.raises(ConnectionLimitError):
        add(connections, "10.0.0.5")
    assert len(connections) == 4


def test_connections_that_wait_have_a_limit_of_their_own() -> None:
    evicted: list[Connection] = []
    connections = Connections(ConnectionLimits(waiting=2), evicted.append, lambda: 0.0)
    for number in range(5):
        add(connections, f"10.0.0.{number}").admit(ADMITTED)
    waiting = [add(connections, f"10.0.1.{number}") for number in range(5)]
    assert evicted == waiting[:3]


def test_incomplete_requests_have_a_limit_in_sum() -> None:
    evicted: list[Connection] = []
    connections = Connections(ConnectionLimits(), evicted.append, lambda: 0.0)
    size = MAX_BUFFERED // 4
    senders = [add(connections, f"10.0.0.{number}") for number in range(6)]
    for one in senders:
        one.received(1)
    for one in reversed(senders):
        one.received(size)
    assert evicted == senders[:2]
    senders[2].received(0)
    senders[3].ended()
    assert connections.buffered == 2 * size


def test_nodes_in_one_ipv6_network_have_a_limit_each() -> None:
    connections = Connections(ConnectionLimits(total=100, per_peer=2), clock=lambda: 0.0)
    for number in range(20):
        for _ in range(2):
            add(connections, f"2001:db8::{number}").admit(ADMITTED)
    with pytest.raises(ConnectionLimitError):
        add(connections, "2001:db8::1")


def test_each_deadline_passes_once_and_in_its_time() -> None:
    now = [0.0]
    expired: list[tuple[str, bool]] = []
    connections = Connections(ConnectionLimits(request_seconds=10.0), clock=lambda: now[0])

    def enter(name: str) -> Connection:
        one = add(connections, "10.0.0.1")
        one.expire = lambda is_reply: expired.append((name, is_reply))
        return one

    silent, refused, half, slow, idle = map(enter, ("silent", "refused", "half", "slow", "idle"))
    for one in (half, slow, idle):
        one.admit(ADMITTED)
    half.received(5)
    now[0] = 4.0
    refused.wait()
    slow.sending()
    half.received(9)
    for at, expected in (
        (9.9, []),
        (10.0, [("silent", False), ("half", False)]),
        (14.1, [("refused", False), ("slow", True)]),
    ):
        now[0] = at
        connections.expire()
        assert expired == expected
        expired.clear()
    assert silent.admission is None
    now[0] = 1000.0
    slow.sending()
    slow.sent()
    half.received(1, is_new=True)
    connections.expire()
    assert expired == []


@pytest.mark.parametrize(
    ("limits", "wanted", "expected"),
    [
        ((20_000, 20_000), 10_000, 10_000),
        ((1_024, 20_000), 10_000, 10_000),
        ((1_024, 4_096), 10_000, 3_968),
        ((1_024, 1_024), 10_000, 896),
        ((1_024, 1_024), 100, 100),
        ((40, 40), 10_000, 20),
        ((1_024, resource.RLIM_INFINITY), 10_000, 10_000),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 10_000, 10_000),
    ],
)
def test_the_limit_comes_from_that_of_open_files(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], wanted: int, expected: int
) -> None:
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: raised.append(new))
    assert listener.connection_limit(wanted) == expected
    assert all(new <= limits[1] or limits[1] < 0 for new, _ in raised)


async def test_a_request_whose_credentials_are_being_verified_is_not_evicted(
    serving: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, goes_on = asyncio.Event(), asyncio.Event()

    async def slow(*_: Any, **__: Any) -> bool:
        running.set()
        await goes_on.wait()
        return True

    monkeypatch.setattr(Credentials, "verify", slow)
    monkeypatch.setenv("TEST_POLICY_PASSWORD", "s3cret")
    guarded = build_policy(
        settings(auth={"user": "pexip", "password_env": "TEST_POLICY_PASSWORD"}), available={}
    )
    async with serving(guarded, limits={"total": 3}) as server, AsyncExitStack() as stack:
        call = asyncio.create_task(server.ask(wire.SERVICE, headers=wire.basic("pexip", "any")))
        await running.wait()
        strangers = [await stack.enter_async_context(connected(server)) for _ in range(6)]
        for reader, _ in strangers[:4]:
            await closed(reader)
        goes_on.set()
        assert (await call).status == 200
