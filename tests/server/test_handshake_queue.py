import asyncio
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pexpolicy.access.connections import Connection, Connections
from pexpolicy.server.http.handshake_queue import HandshakeQueue
from tests.support import certificates, fake_plugins, wire

LONG_S = 60.0


class Accepted:
    """A queue that records what it starts, and the clients in it."""

    def __init__(self, stack: ExitStack, seconds: float = LONG_S) -> None:
        self.started: list[Connection] = []
        self.timed_out: asyncio.Queue[Connection] = asyncio.Queue()
        self.connections = Connections(100, 100)
        self.queue = HandshakeQueue(
            lambda connection, _: self.started.append(connection),
            self.timed_out.put_nowait,
            seconds,
        )
        self._stack = stack

    def put(
        self, *, sends: bool, peer: str = "192.0.2.1"
    ) -> tuple[Connection, socket.socket, socket.socket]:
        """Put a connection into the queue; return it with both of its sockets."""
        server, client = socket.socketpair()
        self._stack.enter_context(server)
        self._stack.enter_context(client)
        server.setblocking(False)
        if sends:
            client.send(b"hello")
        connection = Connection(peer, 0.0, server.close)
        self.connections.add(connection)
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


async def test_one_handshake_is_started_in_each_turn_in_the_order_of_arrival(
    stack: ExitStack,
) -> None:
    accepted = Accepted(stack)
    put = [accepted.put(sends=True)[0] for _ in range(20)]
    assert max(await turns_until(accepted, 20)) == 1
    assert set(accepted.started) == set(put)


async def test_a_silent_client_is_not_started_until_it_sends(stack: ExitStack) -> None:
    accepted = Accepted(stack)
    silent, _, client = accepted.put(sends=False)
    other, *_ = accepted.put(sends=True)
    await turns_until(accepted, 1)
    assert accepted.started == [other]
    client.send(b"hello")
    await turns_until(accepted, 2)
    assert accepted.started == [other, silent]


async def test_a_silent_client_is_closed_in_the_end(stack: ExitStack) -> None:
    accepted = Accepted(stack, seconds=0.0)
    silent, server, _ = accepted.put(sends=False)
    async with asyncio.timeout(LONG_S):
        assert await accepted.timed_out.get() is silent
    assert accepted.started == []
    assert server.fileno() == -1
    assert len(accepted.connections) == 0


@pytest.mark.parametrize("sends", [True, False])
async def test_an_evicted_connection_is_not_started(stack: ExitStack, sends: bool) -> None:
    accepted = Accepted(stack)
    evicted, server, _ = accepted.put(sends=sends)
    accepted.connections.evict(0, 1.0)
    assert server.fileno() == -1
    other, *_ = accepted.put(sends=True)
    await turns_until(accepted, 1)
    assert accepted.started == [other]
    assert evicted not in accepted.started
    assert len(accepted.connections) == 1


async def test_a_connection_evicted_after_its_data_came_is_not_started(stack: ExitStack) -> None:
    accepted = Accepted(stack)
    for _ in range(3):
        accepted.put(sends=True)
    await turns_until(accepted, 1)
    await asyncio.sleep(0)
    count = len(accepted.started)
    for connection in accepted.started:
        connection.ended()
    accepted.connections.evict(0, 1.0)
    other, *_ = accepted.put(sends=True)
    await turns_until(accepted, count + 1)
    assert accepted.started[count:] == [other]


async def test_at_the_end_all_are_started_once(stack: ExitStack) -> None:
    accepted = Accepted(stack)
    put = {accepted.put(sends=number % 2 == 0)[0] for number in range(10)}
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
    put = HandshakeQueue.put

    def note(queue: HandshakeQueue, connection: Connection, accepted: socket.socket) -> None:
        seen.append(connection)
        put(queue, connection, accepted)

    monkeypatch.setattr(HandshakeQueue, "put", note)
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
    flood = [accepted.put(sends=True)[0] for _ in range(10)]
    await asyncio.sleep(0)
    node, *_ = accepted.put(sends=True, peer="192.0.2.2")
    await turns_until(accepted, 11)
    assert accepted.started.index(node) < 9
    assert {*accepted.started} == {*flood, node}
