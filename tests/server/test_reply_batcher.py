"""Replies leave in the next turn, in their order, and none is lost where a connection ends."""

import asyncio
from contextvars import ContextVar

import pytest
from aiohttp import web

from pexpolicy.access.connections import ConnectionLimits
from pexpolicy.access.refusals import RefusalLog
from pexpolicy.server.http import protocol
from pexpolicy.server.http.protocol import MAX_REPLY_DELAY_S, ReplyBatcher
from tests.support.fake_plugins import Log


class Wire(asyncio.Transport):
    """Notes what is written."""

    def __init__(self, *, closing: bool = False, broken: bool = False) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False
        self.is_closed = False
        self._closing = closing
        self._broken = broken

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._broken:
            raise RuntimeError("end of file was written")
        self.written.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.aborted = True


def batcher_of(log: Log | None = None) -> ReplyBatcher:
    refusals = RefusalLog(lambda *_, **__: None)
    return ReplyBatcher(
        web.Server(unused), ConnectionLimits(), refusals, log or Log(), lambda: None
    )


async def unused(_: web.BaseRequest) -> web.StreamResponse:
    raise AssertionError


async def test_all_of_a_turn_leaves_in_the_next_one() -> None:
    batcher, one, other = batcher_of(), Wire(), Wire()
    for content in (b"1", b"2"):
        batcher.put(one, content)
        batcher.put(other, content)
    assert one.written == other.written == []
    await asyncio.sleep(0)
    assert one.written == other.written == [b"1", b"2"]
    batcher.put(one, b"3")
    await asyncio.sleep(0)
    assert one.written == [b"1", b"2", b"3"]


async def test_a_connection_that_breaks_costs_no_other() -> None:
    log = Log()
    batcher = batcher_of(log)
    gone, broken, well = Wire(closing=True), Wire(broken=True), Wire()
    for transport in (gone, broken, well):
        batcher.put(transport, b"reply")
    await asyncio.sleep(0)
    assert (gone.written, broken.aborted, well.written) == ([], True, [b"reply"])
    (said,) = log.events
    assert said["event"] == "a reply could not be sent"
    assert said["error"].startswith("RuntimeError: end of file was written (test_reply_batcher.py:")


async def test_a_turn_that_takes_long_sends_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    now, one = 5.0, Wire()
    batcher = batcher_of()
    monkeypatch.setattr(protocol, "monotonic", lambda: now)
    for passed, written in (
        (0.0, []),
        (MAX_REPLY_DELAY_S / 2, []),
        (MAX_REPLY_DELAY_S, [b"", b"", b""]),
    ):
        now += passed
        batcher.put(one, b"")
        assert one.written == written
    batcher.put(one, b"")
    assert len(one.written) == 3
    await asyncio.sleep(0)
    assert len(one.written) == 4


async def test_a_reply_is_sent_outside_of_what_a_call_noted() -> None:
    noted: ContextVar[str] = ContextVar("noted", default="nothing")
    seen: list[str] = []

    class Looks(Wire):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            seen.append(noted.get())

    noted.set("of one call")
    batcher_of().put(Looks(), b"reply")
    await asyncio.sleep(0)
    assert seen == ["nothing"]
