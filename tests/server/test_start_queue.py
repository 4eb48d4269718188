import asyncio
import gc
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pexpolicy.access.connections import Connection, Connections, Stage
from pexpolicy.server.http.start_queue import (
    MAX_EXAMINED,
    StartQueue,
    is_whole_head,
    is_whole_hello,
)
from tests.support import certificates, fake_plugins, wire
from tests.support.virtual_time import advance, virtual

LONG_S = 60.0
WHOLE, PART, NOTHING = b"hello.", b"he", b""


class Accepted:
    """A queue that records what it starts, and the clients in it."""

    def __init__(self, stack: ExitStack, seconds: float = LONG_S, per_turn: int = 1) -> None:
        self.started: list[Connection] = []
        self.timed_out: asyncio.Queue[tuple[Connection, bool]] = asyncio.Queue()
        self.connections = Connections(100, 100)
        self.queue = StartQueue(
            lambda connection, _: self.started.append(connection),
            lambda connection, has_sent: self.timed_out.put_nowait((connection, has_sent)),
            seconds,
            lambda data: data.endswith(b"."),
            per_turn,
        )
        self._stack = stack

    def put(
        self, sends: bytes = WHOLE, peer: str = "192.0.2.1", stage: Stage = Stage.SILENT
    ) -> tuple[Connection, socket.socket, socket.socket]:
        """Put a connection into the queue; return it with both of its sockets."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = self._stack.enter_context(socket.create_connection(listener.getsockname()))
            server = self._stack.enter_context(listener.accept()[0])
        server.setblocking(False)
        client.send(sends)
        connection = Connection(peer, asyncio.get_running_loop().time(), server.close)
        self.connections.add(connection, stage)
        self.queue.put(connection, server)
        return connection, server, client


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def turns_until(accepted: Accepted, count: int) -> list[int]:
    """Run turns of the event loop until ``count`` are started; return the starts of each turn."""
    turns = []
    async with asyncio.timeout(LONG_S):
        while len(accepted.started) < count:
            before = len(accepted.started)
            await asyncio.sleep(0)
            turns.append(len(accepted.started) - before)
    return turns


@pytest.mark.parametrize("per_turn", [1, 3])
async def test_repeated_connections_are_started_a_few_in_a_turn_in_order(
    stack: ExitStack, per_turn: int
) -> None:
    accepted = Accepted(stack, per_turn=per_turn)
    put = [accepted.put()[0] for _ in range(20)]
    assert max(await turns_until(accepted, 20)) == per_turn
    assert accepted.started == put


async def test_of_first_connections_the_newest_is_started_first(stack: ExitStack) -> None:
    accepted = Accepted(stack)
    put = [accepted.put(peer=f"192.0.2.{number}")[0] for number in range(20)]
    await turns_until(accepted, 20)
    assert accepted.started == put[::-1]


async def test_an_address_of_right_credentials_does_not_wait(stack: ExitStack) -> None:
    accepted = Accepted(stack)
    accepted.put()
    known, *_ = accepted.put(stage=Stage.KNOWN)
    silent, *_ = accepted.put(NOTHING, stage=Stage.KNOWN)
    assert accepted.started == [known, silent]


async def test_a_part_waits_for_more_without_being_read_again(stack: ExitStack) -> None:
    accepted = Accepted(stack)
    connection, server, client = accepted.put(PART)
    assert connection.stage is Stage.INCOMPLETE
    for _ in range(10):
        await asyncio.sleep(0)
    assert accepted.started == []
    for _ in range(MAX_EXAMINED):
        assert accepted.started == []
        client.send(PART)
        for _ in range(10):
            await asyncio.sleep(0)
    await turns_until(accepted, 1)
    assert accepted.started == [connection]
    assert server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
    assert server.recv(100) == PART * (MAX_EXAMINED + 1)


@virtual
async def test_a_further_part_does_not_postpone_the_end(stack: ExitStack) -> None:
    accepted = Accepted(stack)
    early, server, client = accepted.put(PART)
    advance(LONG_S / 2)
    late, *_ = accepted.put(PART)
    client.send(PART)
    while server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) < 2 * len(PART):  # noqa: ASYNC110
        await asyncio.sleep(0)
    ends = [(await accepted.timed_out.get())[0] for _ in range(2)]
    assert ends == [early, late]


async def test_a_client_that_is_gone_is_not_started(stack: ExitStack) -> None:
    accepted = Accepted(stack)
    _, server, client = accepted.put(NOTHING)
    client.close()
    while server.fileno() >= 0:  # noqa: ASYNC110 - of one turn
        await asyncio.sleep(0)
    assert len(accepted.connections) == 0
    assert accepted.started == []


def test_what_is_no_request_need_not_be_whole() -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    assert [is_whole_head(head[:size]) for size in (1, 20, len(head) - 1)] == [False] * 3
    assert is_whole_head(head)
    assert is_whole_head(b"\x16\x03\x01")
    hello = b"\x16\x03\x01\x00\x04abcd"
    assert [is_whole_hello(hello[:size]) for size in range(1, 10)] == [False] * 8 + [True]
    assert is_whole_hello(b"GET")


async def test_a_silent_client_is_not_started_until_it_sends(stack: ExitStack) -> None:
    accepted = Accepted(stack)
    silent, _, client = accepted.put(NOTHING)
    other, *_ = accepted.put()
    await turns_until(accepted, 1)
    assert accepted.started == [other]
    client.send(WHOLE)
    await turns_until(accepted, 2)
    assert accepted.started == [other, silent]


@pytest.mark.parametrize("sends", [NOTHING, PART])
async def test_a_silent_client_is_closed_in_the_end(stack: ExitStack, sends: bytes) -> None:
    accepted = Accepted(stack, seconds=0.0)
    silent, server, _ = accepted.put(sends)
    async with asyncio.timeout(LONG_S):
        assert await accepted.timed_out.get() == (silent, bool(sends))
    assert accepted.started == []
    assert server.fileno() == -1
    assert len(accepted.connections) == 0


@pytest.mark.parametrize("sends", [WHOLE, PART, NOTHING])
async def test_an_evicted_connection_is_not_started(stack: ExitStack, sends: bytes) -> None:
    accepted = Accepted(stack)
    evicted, server, _ = accepted.put(sends)
    accepted.connections.evict(0, float("inf"))
    assert server.fileno() == -1
    other, *_ = accepted.put()
    await turns_until(accepted, 1)
    assert accepted.started == [other]
    assert evicted not in accepted.started
    assert len(accepted.connections) == 1


async def test_the_queue_keeps_nothing_of_an_evicted_connection(stack: ExitStack) -> None:
    accepted = Accepted(stack)
    put = [accepted.put()[0] for _ in range(2)]
    accepted.connections.evict(0, float("inf"))
    assert accepted.queue.newcomers == 0
    for connection in put:
        assert not [one for one in gc.get_referrers(connection) if isinstance(one, (tuple, dict))]


async def test_a_connection_evicted_after_its_data_came_is_not_started(stack: ExitStack) -> None:
    accepted = Accepted(stack)
    for _ in range(3):
        accepted.put()
    await turns_until(accepted, 1)
    await asyncio.sleep(0)
    count = len(accepted.started)
    for connection in accepted.started:
        connection.ended()
    accepted.connections.evict(0, float("inf"))
    other, *_ = accepted.put()
    await turns_until(accepted, count + 1)
    assert accepted.started[count:] == [other]


async def test_at_the_end_all_are_started_once(stack: ExitStack) -> None:
    accepted = Accepted(stack)
    put = {accepted.put((WHOLE, PART, NOTHING)[number % 3])[0] for number in range(10)}
    await turns_until(accepted, 1)
    accepted.queue.start_all()
    await asyncio.sleep(0)
    assert set(accepted.started) == put
    assert len(accepted.started) == 10


RIGHT, WRONG = wire.basic("pexip", "s3cret"), wire.basic("pexip", "guess")


@pytest.mark.parametrize(
    ("auth", "headers", "queued"),
    [
        (True, RIGHT, [True, False, False]),
        (True, WRONG, [True, True, True]),
        (True, {}, [True, True, True]),
        (False, {}, [True, True, True]),
    ],
)
async def test_only_right_credentials_make_an_address_known(
    serving: fake_plugins.Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    auth: bool,
    headers: Mapping[str, str],
    queued: list[bool],
) -> None:
    seen: list[Connection] = []
    put = StartQueue.put

    def note(queue: StartQueue, connection: Connection, accepted: socket.socket) -> None:
        if connection not in seen and connection.stage is not Stage.KNOWN:
            seen.append(connection)
        put(queue, connection, accepted)

    monkeypatch.setattr(StartQueue, "put", note)
    monkeypatch.setenv("TEST_POLICY_PASSWORD", "s3cret")
    certificates.write_pair(tmp_path)
    tables: dict[str, Any] = {"tls": certificates.tls(tmp_path)}
    if auth:
        tables["auth"] = {"user": "pexip", "password_env": "TEST_POLICY_PASSWORD"}
    async with serving(fake_plugins.policy({}, **tables)) as server:
        for is_queued in queued:
            seen.clear()
            await server.ask(
                wire.SERVICE,
                headers=headers,
                ssl=certificates.client_context(),
                server_hostname=certificates.NAME,
            )
            assert bool(seen) is is_queued


async def test_the_first_handshake_of_an_address_goes_before_repeated_ones(
    stack: ExitStack,
) -> None:
    accepted = Accepted(stack)
    flood = [accepted.put()[0] for _ in range(10)]
    await asyncio.sleep(0)
    node, *_ = accepted.put(peer="192.0.2.2")
    await turns_until(accepted, 11)
    assert accepted.started.index(node) < 9
    assert {*accepted.started} == {*flood, node}
