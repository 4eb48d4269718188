"""The journal: it loses no line that fits anywhere, keeps the order, and recovers by itself."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pexpolicy.audit.journal import NOT_SYNCED, Journal
from pexpolicy.audit.spool import WriteResult, orphaned_lines
from tests.audit.places import Place, body, faults, lines

LOST, BUFFERED, SPOOLED, WRITTEN = (int(results) for results in WriteResult)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("spool", [None, 1 << 20])
def test_lines_wait_and_are_written_in_order(tmp_path: Path, error: int, spool: int | None) -> None:
    place = Place(tmp_path, spool=spool)
    assert place.fill(range(3)) == [WRITTEN] * 3
    place.break_down(error)
    assert place.fill(range(3, 6)) == [BUFFERED if spool is None else SPOOLED] * 3
    assert place.status == "degraded"
    assert place.state.error == os.strerror(error)
    place.recover()
    assert place.fill([6]) == [WRITTEN]
    assert place.numbers == list(range(7))
    assert faults(place.path) == []
    assert place.alerts == [
        f"the audit cannot be written: {os.strerror(error)}",
        "the audit is written again; lines lost so far: 0",
    ]
    assert (place.status, place.state.lost) == ("healthy", 0)
    assert not list(tmp_path.glob("*.spool"))


def test_lines_go_to_the_spool_then_to_memory_and_are_lost_when_both_are_full(
    tmp_path: Path,
) -> None:
    capacity = 2 * len(body(1))
    place = Place(tmp_path, spool=500, capacity=capacity)
    place.break_down()
    results = place.fill(range(9))
    assert results == [SPOOLED] * 2 + [BUFFERED] * 2 + [LOST] * 5
    assert (place.status, place.state.lost) == ("failed", 5)
    place.recover()
    place.fill([9, 10])
    assert place.numbers == [0, 1, 2, 3, 9, 10]
    assert [line.get("lost_count") for line in lines(place.path)] == [None] * 2 + [5] + [None] * 3
    assert faults(place.path) == []
    assert len([text for text in place.alerts if "loses" in text]) == 1


def test_a_writer_that_dies_leaves_its_spool_to_the_next_one(tmp_path: Path) -> None:
    place = Place(tmp_path, spool=1 << 20)
    place.fill([1])
    place.break_down()
    place.fill([2, 3])
    assert list(orphaned_lines(tmp_path, print)) == []
    place.journal.close()
    (left,) = orphaned_lines(tmp_path, print)
    with place.path.open("ab") as file:
        file.write(left)
    assert place.numbers == [1, 2, 3]
    assert faults(place.path) == []
    assert not list(tmp_path.glob("*.spool"))


def test_a_second_passes_between_two_checks_of_any_caller(place: Place) -> None:
    place.clock.pass_by(1.0)
    place.fill([1])
    place.clock.pass_by(0.75)
    assert place.journal.tick() == 0.25
    place.path.unlink()
    place.clock.pass_by(0.25)
    assert place.journal.tick() == 1.0
    assert place.path.exists()


def test_an_end_brings_home_what_it_can(place: Place) -> None:
    place.break_down()
    place.fill([1])
    place.file.error = None
    place.journal.close()
    assert place.numbers == [1]


def test_a_disk_that_fills_up_is_reported_at_20_10_and_5_percent(place: Place) -> None:
    for percent in (50, 19, 19, 8, 15, 4, 30):
        place.file.free = (1000 * percent, percent)
        place.clock.pass_by(1.0)
        place.journal.tick()
        assert place.state.free_bytes == 1000 * percent
    assert place.alerts == [f"the disk of the audit has {percent} % left" for percent in (19, 8, 4)]


def test_a_disk_that_cannot_be_synced_is_left_for_another_file(tmp_path: Path) -> None:
    aside = tmp_path / "aside"

    def rotate(anyway: bool) -> bool:
        if anyway:
            place.path.rename(aside)
        return anyway

    place = Place(tmp_path, options={"rotate": rotate})
    place.fill([1])
    place.journal.sync()
    assert place.state.synced_at is not None
    place.fill([2])
    place.break_down(errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        place.journal.sync()
    place.file.error = None
    place.fill([3])
    assert place.numbers == [3]
    assert faults(aside, place.path) == []


def test_a_broken_disk_gets_one_new_file_an_hour_so_that_none_is_removed_for_it(
    tmp_path: Path,
) -> None:
    asked: list[bool] = []

    def rotate(anyway: bool) -> bool:
        asked.append(anyway)
        return False

    place = Place(tmp_path, options={"rotate": rotate})
    for number in range(30):
        place.fill([number])
        place.break_down(errno.EIO)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            place.journal.sync()
        place.file.error = None
        place.clock.pass_by(0.1)
    assert (asked.count(True), len(place.alerts)) == (1, 3)
    place.clock.pass_by(3600.0)
    place.fill([30])
    place.break_down(errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        place.journal.sync()
    assert asked.count(True) == 2
    assert place.numbers == list(range(31))


def test_lines_are_synced_before_another_file_is_opened(tmp_path: Path) -> None:
    renamed = tmp_path / "aside"
    is_due = False

    def rotate(anyway: bool) -> bool:
        if is_due and not renamed.exists():
            place.path.rename(renamed)
            return True
        return False

    place = Place(tmp_path, options={"rotate": rotate})
    synced: list[int] = []
    place.file.sync = lambda: synced.append(place.file.size)  # type: ignore[method-assign]
    place.journal.sync()
    place.fill([1])
    is_due = True
    place.clock.pass_by(1.0)
    place.fill([2])
    place.journal.sync()
    assert synced == [renamed.stat().st_size, place.path.stat().st_size]


def test_a_failed_sync_before_another_file_is_opened_fails_the_next_one(
    tmp_path: Path, place: Place
) -> None:
    place.journal.sync()
    place.fill([1])
    place.path.rename(tmp_path / "aside")
    place.clock.pass_by(1.0)
    place.break_down(errno.EIO)
    place.journal.tick()
    place.file.error = None
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        place.journal.sync()
    place.journal.sync()


@pytest.mark.parametrize("spool", [None, 1 << 20])
def test_where_lines_are_lost_it_has_failed_until_one_can_be_written(
    tmp_path: Path, spool: int | None
) -> None:
    place = Place(tmp_path, capacity=0, spool=spool)
    place.fill([0])
    place.break_down()
    place.fill([1])
    known = place.status
    assert known == ("failed" if spool is None else "degraded")
    for _ in range(50):
        place.clock.pass_by(0.3)
        place.journal.tick()
        assert place.status == known
    alerts = len(place.alerts)
    place.recover()
    assert place.status == "healthy"
    assert len(place.alerts) == alerts + 1
    place.fill([2])
    assert place.numbers == ([0, 2] if spool is None else [0, 1, 2])
    assert faults(place.path) == []


@pytest.mark.parametrize("is_slow", [False, True])
def test_a_disk_that_is_not_synced_in_time_has_failed_until_it_is(
    tmp_path: Path, is_slow: bool
) -> None:
    place = Place(tmp_path, capacity=0)
    place.journal.sync_limit = 0.25

    def sync() -> None:
        if not is_slow:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        place.clock.pass_by(0.3)

    working, place.file.sync = place.file.sync, sync  # type: ignore[method-assign]
    place.fill([0])
    place.journal.mark_failed(NOT_SYNCED)
    for _ in range(10):
        place.clock.pass_by(1.0)
        place.journal.tick()
        assert (place.status, place.state.error) == ("failed", NOT_SYNCED)
    place.file.sync = working  # type: ignore[method-assign]
    place.recover()
    assert (place.status, place.state.error) == ("healthy", "")
    assert place.numbers == [0]
    assert faults(place.path) == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.integers(1, 5)),
        st.tuples(st.just("together"), st.integers(1, 5)),
        st.tuples(st.just("fail"), st.sampled_from([errno.ENOSPC, errno.EIO])),
        st.tuples(st.just("mend"), st.just(0)),
        st.tuples(st.just("pass"), st.sampled_from([0.1, 0.6, 1.1])),
        st.tuples(st.just("rename"), st.just(0)),
        st.tuples(st.just("reopen"), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=60)
@given(steps=STEPS, spool=st.sampled_from([None, 600, 1 << 20]), capacity=st.sampled_from([0, 300]))
def test_whatever_happens_each_line_is_there_once_and_in_order_or_counted_as_lost(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, float]],
    spool: int | None,
    capacity: int,
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    place = Place(folder, spool=spool, capacity=capacity)
    results: list[int] = []
    files = 0
    for what, amount in steps:
        if what == "record":
            for _ in range(int(amount)):
                results += place.fill([len(results)])
        elif what == "together":
            results += place.fill_together(range(len(results), len(results) + int(amount)))
        elif what == "fail":
            place.break_down(int(amount))
        elif what == "mend":
            place.file.error = None
        elif what == "pass":
            place.clock.pass_by(amount)
            place.journal.tick()
        elif what == "rename" and place.path.exists():
            place.path.rename(folder / f"audit.{files:03}")
            files += 1
        elif what == "reopen":
            place.journal.reopen()
    place.recover()
    place.fill([len(results)])
    place.journal.close()
    paths = [*sorted(folder.glob("audit.0*")), place.path]
    there = [line["n"] for line in lines(*paths)]
    assert there == [n for n, found in enumerate(results) if found != LOST] + [len(results)]
    assert sum(line.get("lost_count", 0) for line in lines(*paths)) == results.count(LOST)
    assert faults(*paths) == []


def test_the_journal_of_a_reader_who_comes_back_says_nothing(place: Place) -> None:
    assert isinstance(place.journal, Journal)
    place.break_down(errno.EAGAIN)
    place.fill([1])
    assert place.alerts == []
    place.file.error = None
    place.clock.pass_by(0.6)
    place.fill([2])
    place.clock.pass_by(1.0)
    place.journal.tick()
    assert place.alerts == []
    assert (place.status, place.state.error) == ("healthy", "")
    assert place.numbers == [1, 2]
