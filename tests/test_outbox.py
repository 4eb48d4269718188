"""Replies leave in the next turn, in their order, and none is lost where a connection ends."""

import asyncio

import pytest

from pexpolicy.outbox import Outbox
from tests import wire
from tests.toys import Serve, always, plugin


class Wire(asyncio.Transport):
    """Notes what is written."""

    def __init__(self, *, closing: bool = False, broken: bool = False) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False
        self._closing = closing
        self._broken = broken

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._broken:
            raise RuntimeError("end of file was written")
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.aborted = True


async def test_all_of_a_turn_leaves_in_the_next_one() -> None:
    outbox, one, other = Outbox(asyncio.get_running_loop()), Wire(), Wire()
    for content in (b"1", b"2"):
        outbox.put(one, content)
        outbox.put(other, content)
    assert one.written == other.written == []
    await asyncio.sleep(0)
    assert one.written == other.written == [b"1", b"2"]
    outbox.put(one, b"3")
    await asyncio.sleep(0)
    assert one.written == [b"1", b"2", b"3"]


async def test_what_is_sent_at_once_is_not_sent_again() -> None:
    outbox, one = Outbox(asyncio.get_running_loop()), Wire()
    outbox.put(one, b"1")
    outbox.flush()
    assert one.written == [b"1"]
    outbox.put(one, b"2")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert one.written == [b"1", b"2"]


async def test_a_connection_that_breaks_costs_no_other() -> None:
    outbox = Outbox(asyncio.get_running_loop())
    gone, broken, well = Wire(closing=True), Wire(broken=True), Wire()
    for transport in (gone, broken, well):
        outbox.put(transport, b"reply")
    await asyncio.sleep(0)
    assert (gone.written, broken.aborted, well.written) == ([], True, [b"reply"])


REQUEST = wire.request_bytes(wire.SERVICE, "GET", {"Connection": "keep-alive"})
LAST = wire.request_bytes(wire.SERVICE, "GET", {})


async def test_pipelined_replies_come_in_their_order_up_to_the_last(serving: Serve) -> None:
    async with serving({"toy": plugin(service_configuration=always(None))}) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        targets = [f"{wire.SERVICE}?local_alias=a{number}" for number in range(20)]
        for target in targets[:-1]:
            writer.write(wire.request_bytes(target, "GET", {"Connection": "keep-alive"}))
        writer.write(wire.request_bytes(targets[-1], "GET", {}))
        answer = await asyncio.wait_for(reader.read(), 5.0)
        writer.close()
        ids = [line["decision_id"].encode() for line in server.lines()]
        places = [answer.index(decision_id) for decision_id in ids]
        assert len(places) == 20
        assert places == sorted(places)
        assert answer.count(b"Connection: close") == 1


async def test_what_was_answered_leaves_though_the_server_ends_in_the_same_turn(
    serving: Serve,
) -> None:
    asked, ends = asyncio.Event(), asyncio.Event()

    async def waits(_: object) -> None:
        asked.set()
        await ends.wait()

    async with serving({"toy": plugin(service_configuration=waits)}) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(REQUEST)
        await asked.wait()
        # The hook goes on and the server is told to end in one turn.
        ends.set()
    answer = await asyncio.wait_for(reader.read(), 5.0)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"decided_by" in answer


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
