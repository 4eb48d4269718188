"""Replies leave in the next turn, in their order, and none is lost where a connection ends."""

import asyncio

from aiohttp import web

from pexpolicy.access.connections import ConnectionLimits
from pexpolicy.access.refusals import RefusalLog
from pexpolicy.server.http.protocol import ReplyBatcher
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
