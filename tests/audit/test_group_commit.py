"""Group commit: replies wait for the disk, with a time limit."""

import asyncio
import errno
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pexpolicy.audit import sinks
from pexpolicy.audit.journal import DISK_TOO_SLOW, NOT_SYNCED
from pexpolicy.audit.sinks import GroupCommitSink
from pexpolicy.audit.spool import WriteResult
from tests.audit.places import Clock, Faulty, Place, body, faults, lines
from tests.support.virtual_time import skip
from tests.support.waiting import wait_until

FSYNC: dict[str, Any] = {}
REQUIRED: dict[str, Any] = {"answers": False, "least": WriteResult.SPOOLED}
LONG = 300.0
"""Timeout of replies in seconds: passes only when a test moves the clocks."""


class Hung:
    """A file whose writes hang, as on a network share that is gone."""

    def __init__(self, file: Faulty) -> None:
        self._resumed = threading.Event()
        self._resumed.set()
        self._write = file.write
        self.writing = threading.Event()
        file.write = self.write  # type: ignore[method-assign]

    def write(self, lines: bytes) -> None:
        self.writing.set()
        self._resumed.wait()
        self._write(lines)

    def hang(self) -> None:
        self._resumed.clear()
        self.writing.clear()

    async def until_writing(self) -> None:
        assert await asyncio.to_thread(self.writing.wait, LONG)

    def resume(self) -> None:
        self._resumed.set()


@contextmanager
def grouped(
    place: Place, durability: dict[str, Any], capacity: int = 1 << 20
) -> Iterator[GroupCommitSink]:
    sink = GroupCommitSink(place.journal, capacity, LONG, **durability)
    try:
        yield sink
    finally:
        sink.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which the sink tells how long the thread has been writing."""
    clock = Clock()
    monkeypatch.setattr(sinks, "time", SimpleNamespace(monotonic=clock))
    return clock


async def answer(sink: GroupCommitSink, number: int) -> bool:
    """Return whether the reply may be sent."""
    recorded = sink.record(body(number))
    return True if recorded is None else await recorded


def slow_sync(place: Place) -> tuple[threading.Event, threading.Event]:
    """Make a sync of the file wait; return an event for its start, and one that ends it."""
    syncing, synced = threading.Event(), threading.Event()

    def sync() -> None:
        syncing.set()
        synced.wait()

    place.file.sync = sync  # type: ignore[method-assign]
    return syncing, synced


async def until_written(place: Place, count: int) -> None:
    await asyncio.to_thread(wait_until, lambda: place.state.records >= count)


async def test_replies_that_wait_together_share_a_sync(place: Place) -> None:
    syncs = 0
    sync = place.file.sync

    def counted() -> None:
        nonlocal syncs
        syncs += 1
        sync()

    place.file.sync = counted  # type: ignore[method-assign]
    with grouped(place, FSYNC) as sink:
        assert all(await asyncio.gather(*(answer(sink, n) for n in range(200))))
        assert place.numbers == list(range(200))
        assert place.state.synced_at is not None
    assert 1 <= syncs < 100
    assert faults(place.path) == []


async def test_no_reply_waits_for_a_file_that_hangs_and_no_line_is_lost(
    place: Place, clock: Clock
) -> None:
    hung = Hung(place.file)
    with grouped(place, FSYNC) as sink:
        hung.hang()
        replies = [asyncio.create_task(answer(sink, n)) for n in range(5)]
        await hung.until_writing()
        skip(LONG + 1)
        assert all(await asyncio.gather(*replies))
        clock.pass_by(LONG + 1)
        assert [sink.record(body(n)) for n in range(5, 9)] == [None] * 4
        assert place.state.loses_lines
        hung.resume()
    assert place.numbers == list(range(9))


async def test_a_decision_that_must_be_recorded_is_not_sent_when_the_file_hangs(
    tmp_path: Path, clock: Clock
) -> None:
    place = Place(tmp_path, capacity=0)
    hung = Hung(place.file)
    with grouped(place, REQUIRED) as sink:
        assert await answer(sink, 0)
        hung.hang()
        reply = asyncio.create_task(answer(sink, 1))
        await hung.until_writing()
        skip(LONG + 1)
        assert not await reply
        clock.pass_by(LONG + 1)
        assert not await answer(sink, 2)
        assert not await answer(sink, 2)
        # The load balancer must stop sending calls, and an operator must be alerted.
        assert (place.status, place.state.error) == ("failed", DISK_TOO_SLOW)
        assert place.alerts[-1] == f"the audit loses lines: {DISK_TOO_SLOW}"
        hung.resume()
        await until_written(place, 3)
        clock.pass_by(-LONG - 1)
        assert await answer(sink, 3)
        # Not before: the lost lines are counted with the first line that the thread takes.
        place.clock.pass_by(2.0)
        await asyncio.to_thread(wait_until, lambda: place.status == "healthy")
    written = lines(place.path)
    # The thread was in the middle of writing line 1 when its reply timed out.
    events = [line["event"] for line in written]
    assert events.count("retracted") == 1
    assert 2 not in place.numbers
    assert place.numbers == [0, 1, 3]
    assert faults(place.path) == []
    assert place.state.lost == 2


@pytest.mark.parametrize("event", ["decision", "shadow"])
async def test_a_decision_recorded_too_late_is_retracted_when_the_server_ends(
    tmp_path: Path, event: str
) -> None:
    place = Place(tmp_path, capacity=0)
    syncing, synced = slow_sync(place)
    with grouped(place, REQUIRED) as sink:
        recorded = sink.record(body(0).replace(b"decision", event.encode()))
        assert recorded is not None
        reply = asyncio.ensure_future(recorded)
        assert await asyncio.to_thread(syncing.wait, LONG)
        skip(LONG + 1)
        assert not await reply
        assert (place.status, place.state.error) == ("failed", DISK_TOO_SLOW)
        # The loop waits for the thread in `close`, and cannot resolve what the thread hands to it.
        synced.set()
    # The decision that a shadow line is about may have been sent.
    written = ["decision", "retracted"] if event == "decision" else ["shadow"]
    assert [line["event"] for line in lines(place.path)] == written
    assert faults(place.path) == []


async def test_a_decision_that_is_not_sent_as_its_line_cannot_be_synced_is_retracted(
    tmp_path: Path,
) -> None:
    def sync() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    place = Place(tmp_path, capacity=0)
    place.file.sync = sync  # type: ignore[method-assign]
    with grouped(place, REQUIRED) as sink:
        assert not await answer(sink, 0)
        assert (place.status, place.state.error) == ("failed", NOT_SYNCED)
    assert [line["event"] for line in lines(place.path)] == ["decision", "retracted"]
    assert faults(place.path) == []


async def test_lines_that_are_given_up_after_one_that_hangs_are_counted(tmp_path: Path) -> None:
    place = Place(tmp_path, capacity=0)
    hung = Hung(place.file)
    syncing, synced = slow_sync(place)
    with grouped(place, REQUIRED) as sink:
        first = asyncio.create_task(answer(sink, 0))
        assert await asyncio.to_thread(syncing.wait, LONG)
        others = [asyncio.create_task(answer(sink, number)) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        hung.hang()
        synced.set()
        await hung.until_writing()
        assert await first
        skip(LONG + 1)
        assert await asyncio.gather(*others) == [False] * 3
        hung.resume()
        await until_written(place, 3)
        place.clock.pass_by(2.0)
        assert await answer(sink, 4)
    written = lines(place.path)
    assert place.numbers == [0, 1, 4]
    assert place.state.lost == 2
    assert sum(line.get("lost_count", 0) for line in written) == 2
    assert faults(place.path) == []


async def test_a_required_line_may_be_in_the_spool_but_not_in_memory(tmp_path: Path) -> None:
    for spool, sent in ((None, False), (1 << 20, True)):
        folder = tmp_path / str(sent)
        folder.mkdir()
        place = Place(folder, capacity=0, spool=spool)
        with grouped(place, REQUIRED) as sink:
            assert await answer(sink, 0)
            place.file.error = errno.EIO
            # The sync of the file fails too, but that of the spool counts.
            assert await answer(sink, 1) is sent
            place.file.error = None
        assert place.numbers == ([0, 1] if sent else [0])
        assert place.state.lost == (0 if sent else 1)


async def test_an_end_writes_all_that_was_taken(place: Place) -> None:
    with grouped(place, FSYNC) as sink:
        assert None not in [sink.record(body(n)) for n in range(500)]
    assert place.numbers == list(range(500))


async def test_lines_that_cannot_be_written_at_the_end_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "JOIN_TIMEOUT_S", 0.01)
    place = Place(tmp_path)
    hung = Hung(place.file)
    with grouped(place, FSYNC) as sink:
        hung.hang()
        sink.record(body(0))
        await hung.until_writing()
        for number in (1, 2):
            sink.record(body(number))
    assert place.alerts[-1] == "the audit ends with 3 lines that were not written"
    hung.resume()
    await asyncio.to_thread(wait_until, lambda: place.numbers == [0, 1, 2])


async def test_lines_beyond_the_room_are_counted_as_lost(place: Place) -> None:
    hung = Hung(place.file)
    with grouped(place, FSYNC, capacity=10 * len(body(10))) as sink:
        hung.hang()
        sink.record(body(10))
        await hung.until_writing()
        taken = [sink.record(body(number)) is not None for number in range(11, 31)]
        assert taken == [True] * 10 + [False] * 10
        hung.resume()
        await until_written(place, 11)
        sink.record(body(31))
    assert place.numbers == [*range(10, 21), 31]
    assert place.state.lost == 10
    assert f"the audit loses lines: {DISK_TOO_SLOW}" in place.alerts
    assert sum(line.get("lost_count", 0) for line in lines(place.path)) == 10


async def test_a_fault_of_our_own_loses_one_line_and_counts_it(tmp_path: Path) -> None:
    place = Place(tmp_path, capacity=0)
    record = place.journal.record

    def fails(content: bytes) -> WriteResult:
        if content == body(1):
            raise ZeroDivisionError
        return record(content)

    place.journal.record = fails  # type: ignore[method-assign, assignment]
    with grouped(place, REQUIRED) as sink:
        answers = await asyncio.gather(*(answer(sink, number) for number in range(3)))
    assert answers == [True, False, True]
    assert place.numbers == [0, 2]
    assert place.state.lost == 1
    assert sum(line.get("lost_count", 0) for line in lines(place.path)) == 1


async def test_a_renamed_file_is_opened_again_on_request(tmp_path: Path, place: Place) -> None:
    with grouped(place, FSYNC) as sink:
        await answer(sink, 0)
        place.path.rename(tmp_path / "aside")
        sink.reopen()
        await asyncio.to_thread(wait_until, place.path.exists)
        await answer(sink, 1)
    assert json.loads((tmp_path / "aside").read_bytes())["n"] == 0
    assert place.numbers == [1]
