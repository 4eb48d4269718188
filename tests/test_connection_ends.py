"""No reply is lost where a connection ends: by its client, with the server, or with a call."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from pexpolicy import Directory, DirectoryEntry
from pexpolicy.access.connections import Connection
from pexpolicy.access.refusals import Refusals
from pexpolicy.building import build_policy
from pexpolicy.outbox import Outbox
from pexpolicy.protocol import PolicyProtocol
from pexpolicy.tables import LimitsTable
from tests import certificates, toys, wire
from tests.test_outbox import Wire
from tests.toys import Serve, always, plugin

KEEP = {"Connection": "keep-alive"}
REQUEST = wire.request_bytes(wire.SERVICE, "GET", KEEP)


async def asked_whole(port: int, content: bytes) -> bytes:
    """All that a client gets who ends its own side of the connection behind ``content``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(content)
    writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 5.0)
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


ENTRIES = [DirectoryEntry(alias=f"a{number}", description="A" * 200) for number in range(16_000)]


async def read_slowly(port: int, began: asyncio.Event) -> bytes:
    """A reply that does not fit into any buffer, by one who takes his time."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, wire.request_bytes(wire.DIRECTORY, "GET", KEEP))
        received = await loop.sock_recv(client, 1000)
        began.set()
        await asyncio.sleep(0.1)
        while more := await loop.sock_recv(client, 65536):
            received += more
    return received


async def test_a_reply_that_is_being_read_is_finished_though_the_server_ends(
    serving: Serve,
) -> None:
    directory = always(Directory(entries=ENTRIES))
    began = asyncio.Event()
    async with serving({"toy": plugin(directory_information=directory)}) as server:
        reading = asyncio.create_task(read_slowly(server.port, began))
        await began.wait()
    reply = wire.parsed(await asyncio.wait_for(reading, 10.0))
    assert len(reply.body) == int(reply.headers["content-length"]) > 3_000_000


def connected_to(transport: Wire) -> PolicyProtocol:
    """A connection on which nothing was asked yet."""
    loop, log = asyncio.get_running_loop(), toys.Log()

    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        raise AssertionError

    protocol = PolicyProtocol(
        web.Server(handler),
        loop=loop,
        connection=Connection("192.0.2.1", loop.time(), transport.abort),
        refusals=Refusals(lambda *_, **__: None),
        limits=LimitsTable(),
        log=log,
        outbox=Outbox(loop, log, lambda: None),
    )
    protocol.connection_made(transport)
    return protocol


@pytest.mark.parametrize("end", [PolicyProtocol.close, PolicyProtocol.force_close])
async def test_what_waits_is_sent_before_its_connection_ends(
    end: Callable[[PolicyProtocol], None],
) -> None:
    transport = Wire()
    protocol = connected_to(transport)
    protocol.send(transport, b"reply", last=False)
    assert transport.written == []
    end(protocol)
    assert transport.written == [b"reply"]
    protocol.connection_lost(None)


async def test_who_does_not_read_holds_up_the_end_of_the_server_once() -> None:
    transport = Wire()
    protocol = connected_to(transport)
    protocol.send(transport, b"reply", last=False)
    protocol.pause_writing()
    began = time.monotonic()
    await protocol.shutdown(0.2)
    assert 0.2 <= time.monotonic() - began < 0.4
    assert transport.is_closed
    protocol.connection_lost(None)


async def test_pipelined_replies_leave_over_tls_too(serving: Serve, tmp_path: Path) -> None:
    certificates.write_pair(tmp_path)
    tls = build_policy(toys.settings(tls=certificates.tls(tmp_path)), available={})
    context: ssl.SSLContext = certificates.trusting()
    async with serving(tls) as server:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=context, server_hostname=certificates.NAME
        )
        writer.write(REQUEST * 19 + wire.request_bytes(wire.SERVICE, "GET", {}))
        answer = await asyncio.wait_for(reader.read(), 5.0)
        writer.close()
        places = [answer.index(line["decision_id"].encode()) for line in server.lines()]
        assert len(places) == 20
        assert places == sorted(places)
