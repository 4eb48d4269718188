"""Sinks: lines of one turn are written together, before a reply is sent."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pexpolicy.audit.sinks import MAX_BATCH, JournalSink
from tests.audit.places import Place, body, faults, lines


class Counting(Place):
    writes = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        write = self.file.write

        def counted(lines: bytes) -> None:
            self.writes += 1
            write(lines)

        self.file.write = counted  # type: ignore[method-assign]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Counting]:
    place = Counting(tmp_path)
    yield place
    assert faults(place.path) == []


def take(sink: JournalSink, *numbers: int) -> None:
    for number in numbers:
        sink.record(body(number))


async def test_lines_of_a_turn_are_one_write_in_the_next_one(place: Counting) -> None:
    sink = JournalSink(place.journal, batches=True)
    sink.set_batching(asyncio.get_running_loop())
    take(sink, 0, 1, 2)
    assert place.numbers == []
    await asyncio.sleep(0)
    assert (place.numbers, place.writes) == ([0, 1, 2], 1)
    take(sink, 3)
    await asyncio.sleep(0)
    assert (place.numbers, place.writes) == ([0, 1, 2, 3], 2)


async def test_what_is_flushed_is_written_and_not_written_again(place: Counting) -> None:
    sink = JournalSink(place.journal, batches=True)
    sink.set_batching(asyncio.get_running_loop())
    take(sink, 0, 1)
    sink.flush()
    assert (place.numbers, place.writes) == ([0, 1], 1)
    await asyncio.sleep(0)
    assert place.writes == 1


async def test_a_turn_without_an_end_writes_in_between(place: Counting) -> None:
    sink = JournalSink(place.journal, batches=True)
    sink.set_batching(asyncio.get_running_loop())
    take(sink, *range(MAX_BATCH + 1))
    assert place.numbers == list(range(MAX_BATCH))


def test_without_a_loop_each_line_is_written_at_once(place: Counting) -> None:
    take(JournalSink(place.journal, batches=True), 0, 1)
    assert (place.numbers, place.writes) == ([0, 1], 2)


@pytest.mark.parametrize("end", ["gather", "reopen", "close"])
async def test_what_was_gathered_is_written_before_anything_ends(place: Counting, end: str) -> None:
    sink = JournalSink(place.journal, batches=True)
    sink.set_batching(asyncio.get_running_loop())
    take(sink, 0, 1)
    aside = place.path.with_suffix(".1")
    if end == "reopen":
        place.path.rename(aside)
        sink.reopen()
        assert place.numbers == []
        assert aside.read_bytes().count(b"\n") == 2
        return
    sink.set_batching(None) if end == "gather" else sink.close()
    assert place.numbers == [0, 1]


async def test_a_fault_in_writing_holds_up_no_reply_and_is_reported(place: Counting) -> None:
    sink = JournalSink(place.journal, batches=True)
    sink.set_batching(asyncio.get_running_loop())

    def breaks(_: bytes) -> None:
        raise RuntimeError("unexpected")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place.file, "write", breaks)
        take(sink, 0, 1)
        sink.flush()
    assert place.state.lost == 2
    first, *_, last = place.alerts
    assert first == "internal error in the audit: RuntimeError: unexpected"
    assert last == "the audit loses lines: an internal error"
    take(sink, 2)
    sink.flush()
    (line,) = lines(place.path)
    assert (line["n"], line["seq"], line["lost_count"]) == (2, 1, 2)
