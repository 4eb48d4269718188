"""No reply is lost where a connection ends: by its client, with the server, or with a call."""

import asyncio
import gc
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import pytest

from pexpolicy import Directory, DirectoryEntry
from pexpolicy.access.connections import Connection
from pexpolicy.policy import Policy
from pexpolicy.server.http.protocol import PolicyProtocol
from tests.server.test_reply_batcher import Wire, batcher_of
from tests.support import certificates, wire
from tests.support.fake_plugins import Serve, Serving, always, plugin, policy
from tests.support.waiting import HANG_S, until

KEEP = {"Connection": "keep-alive"}
REQUEST = wire.request_bytes(wire.SERVICE, "GET", KEEP)


async def asked_whole(port: int, content: bytes) -> bytes:
    """All that a client gets who ends its own side of the connection behind ``content``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(content)
    writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), HANG_S)
    finally:
        writer.close()


@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize("waits", [0, 0.01])
async def test_who_asks_no_more_still_gets_what_was_asked(
    serving: Serve, count: int, waits: float
) -> None:
    async def slow(_: object) -> None:
        await asyncio.sleep(waits)

    hook = slow if waits else always(None)
    async with serving({"toy": plugin(service_configuration=hook)}) as server:
        answer = await asked_whole(server.port, REQUEST * count)
        assert answer.count(b"HTTP/1.1 200") == count
        assert len(server.lines()) == count


@pytest.mark.parametrize("left_over", [b"", b"GET /half HTTP/1.1\r\nHo"])
async def test_a_connection_that_asks_no_more_ends_without_waiting(
    serving: Serve, left_over: bytes
) -> None:
    async with serving({"toy": plugin(service_configuration=always(None))}) as server:
        assert await asked_whole(server.port, left_over) == b""
        assert (await asked_whole(server.port, REQUEST + left_over)).count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("content", [b"GET /half", REQUEST, REQUEST + b"GET /half"])
@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_closed_connection_is_freed_without_garbage_collection(
    serving: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, encrypted: bool
) -> None:
    freed = asyncio.Event()
    context = certificates.client_context() if encrypted else None
    name = certificates.NAME if encrypted else None
    async with serving(large(tmp_path, encrypted)) as server:
        gc.disable()
        monkeypatch.setattr(PolicyProtocol, "__del__", lambda _: freed.set(), raising=False)
        _, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=context, server_hostname=name
        )
        writer.write(content)
        writer.close()
        await asyncio.wait_for(freed.wait(), HANG_S)
        gc.enable()


ENTRIES = [DirectoryEntry(alias="a", description="A" * 200)] * 16_000


def read_slowly(
    port: int, began: Barrier, context: ssl.SSLContext | None, pause: Event, keep: str
) -> bytes:
    """A reply that does not fit into any buffer, by one who takes his time."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    client.settimeout(HANG_S)
    client.connect(("127.0.0.1", port))
    if context is not None:
        client = context.wrap_socket(client, server_hostname=certificates.NAME)
    with client:
        client.sendall(wire.request_bytes(wire.DIRECTORY, "GET", {"Connection": keep}))
        received = client.recv(1000)
        began.wait(HANG_S)
        pause.wait(HANG_S)
        while more := client.recv(65536):
            received += more
    return received


async def slowly_read(
    server: Serving, encrypted: bool, keep: str
) -> tuple[asyncio.Task[bytes], Event]:
    """The same, in a thread; it has begun to read, and goes on after the event."""
    began, pause = Barrier(2), Event()
    context = certificates.client_context() if encrypted else None
    reading = asyncio.to_thread(read_slowly, server.port, began, context, pause, keep)
    task = asyncio.create_task(reading)
    await asyncio.to_thread(began.wait, HANG_S)
    return task, pause


def whole(content: bytes) -> bool:
    reply = wire.parse(content)
    return len(reply.body) == int(reply.headers["content-length"]) > 3_000_000


def large(folder: Path, encrypted: bool, **document: Any) -> Policy:
    """A policy with a directory that is read for a while."""
    if encrypted:
        certificates.write_pair(folder)
        document["tls"] = certificates.tls(folder)
    toy = plugin(directory_information=always(Directory(entries=ENTRIES)))
    return policy({"toy": toy}, **document)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
async def test_a_reply_that_is_being_read_is_finished_though_the_server_ends(
    serving: Serve, tmp_path: Path, encrypted: bool
) -> None:
    async with serving(large(tmp_path, encrypted)) as server:
        reading, pause = await slowly_read(server, encrypted, "keep-alive")
        asyncio.get_running_loop().call_later(0.5, pause.set)
    # The event loop of a server ends with it: what is not sent until then, never is.
    assert pause.is_set()
    assert whole(await asyncio.wait_for(reading, HANG_S))


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
async def test_the_last_reply_of_a_connection_may_be_read_slowly(
    serving: Serve, tmp_path: Path, encrypted: bool
) -> None:
    async with serving(large(tmp_path, encrypted)) as server:
        reading, pause = await slowly_read(server, encrypted, "close")
        asyncio.get_running_loop().call_later(1.5, pause.set)
        assert whole(await asyncio.wait_for(reading, HANG_S))


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
async def test_who_does_not_read_a_reply_is_cut_off(
    serving: Serve, tmp_path: Path, encrypted: bool
) -> None:
    async with serving(large(tmp_path, encrypted), limits={"request_seconds": 0.5}) as server:
        reading, pause = await slowly_read(server, encrypted, "keep-alive")
        await until(lambda: [line["reason"] for line in server.lines()][1:] == ["write timeout"])
        pause.set()
        with suppress(OSError):
            assert not whole(await asyncio.wait_for(reading, HANG_S))


def connected_to(transport: Wire) -> PolicyProtocol:
    """A connection on which nothing was asked yet."""
    protocol = PolicyProtocol(batcher_of(), Connection("192.0.2.1", transport.abort))
    protocol.connection_made(transport)
    return protocol


def evict(protocol: PolicyProtocol) -> None:
    """End a connection as one is that makes room for another."""
    protocol.connection.close()


@pytest.mark.parametrize("end", [PolicyProtocol.close, PolicyProtocol.force_close, evict])
async def test_what_waits_is_sent_before_its_connection_ends(
    end: Callable[[PolicyProtocol], None],
) -> None:
    transport = Wire()
    protocol = connected_to(transport)
    protocol.send(transport, b"reply")
    assert transport.written == []
    end(protocol)
    assert transport.written == [b"reply"]
    protocol.connection_lost(None)


async def test_who_does_not_read_holds_up_the_end_of_the_server_once() -> None:
    transport = Wire()
    protocol = connected_to(transport)
    protocol.send(transport, b"reply")
    protocol.pause_writing()
    began = time.monotonic()
    await protocol.shutdown(0.2)
    assert time.monotonic() - began >= 0.2
    assert transport.is_closed
    protocol.connection_lost(None)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
async def test_pipelined_replies_come_in_their_order_up_to_the_last(
    serving: Serve, tmp_path: Path, encrypted: bool
) -> None:
    tls: dict[str, Any] = {}
    if encrypted:
        certificates.write_pair(tmp_path)
        tls["tls"] = certificates.tls(tmp_path)
    context: dict[str, Any] = {
        "ssl": certificates.client_context() if encrypted else None,
        "server_hostname": certificates.NAME if encrypted else None,
    }
    async with serving({"toy": plugin(service_configuration=always(None))}, **tls) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, **context)
        writer.write(REQUEST * 19 + wire.request_bytes(wire.SERVICE, "GET", {}))
        answer = await asyncio.wait_for(reader.read(), HANG_S)
        writer.close()
        places = [answer.index(line["decision_id"].encode()) for line in server.lines()]
        assert len(places) == 20
        assert places == sorted(places)
        assert answer.count(b"Connection: close") == 1
