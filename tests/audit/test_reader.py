"""The reader: damaged, rotated and growing files."""

import gzip
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.audit import reader
from pexpolicy.audit.reader import (
    Fault,
    RawLine,
    Record,
    file_and_rotated,
    follow,
    last_lines,
    raw_lines,
    read,
    records,
)
from pexpolicy.audit.verify import Verification
from tests.audit.places import Place, body
from tests.support.waiting import wait_until


def numbers(found: Iterator[Record | Fault]) -> list[object]:
    return [one.event["n"] if isinstance(one, Record) else one.text for one in found]


def test_damage_is_named_and_what_is_whole_is_read(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    half = body(1)[:30]
    path.write_bytes(
        b"\n".join([body(1), half + body(2), half, b"   ", b"garbage \xff", b"[1]", body(3), b""])
        + body(4)
    )
    assert numbers(records(raw_lines([path]))) == [
        1,
        "30 bytes of a torn line before another line",
        2,
        "a torn line (30 bytes)",
        "not an audit line (9 bytes)",
        "not an audit line (3 bytes)",
        3,
        "the last line has no line end",
        4,
    ]


@given(st.binary(max_size=200))
def test_no_bytes_keep_anybody_from_reading_on(content: bytes) -> None:
    for found in read(RawLine(Path("file"), 1, content)):
        assert isinstance(found, Fault)


def test_a_compressed_file_that_cannot_be_read_sorts_first(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text('{"timestamp":"2026-11-20T00:00:00Z"}\n')
    damaged = [tmp_path / f"audit.jsonl.{number}.gz" for number in range(3)]
    whole = gzip.compress(path.read_bytes())
    for file, content in zip(damaged, (b"", whole[:12], b"\x1f\x8b\x08" + b"x" * 99), strict=True):
        file.write_bytes(content)
    assert file_and_rotated(path) == [*damaged, path]


@pytest.mark.parametrize("cut", [40, -1], ids=["in the middle", "at its end"])
def test_a_damaged_archive_does_not_hide_the_lines_after_it(tmp_path: Path, cut: int) -> None:
    paths = [tmp_path / name for name in ("audit.jsonl.2.gz", "audit.jsonl.1", "audit.jsonl")]
    packed = gzip.compress(body(1) + b"\n")
    paths[0].write_bytes(packed[:cut])
    for number, path in enumerate(paths[1:], 2):
        path.write_bytes(body(number) + b"\n")
    found = list(records(raw_lines(paths)))
    assert numbers(iter(found[-2:])) == [2, 3]
    damage = next(one for one in found if isinstance(one, Fault))
    assert "damaged from here on" in damage.text
    faults = [str(one) for one in Verification().verify(raw_lines(paths))]
    assert str(damage) in faults


def test_files_that_are_renamed_and_removed_meanwhile_are_read(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("audit.jsonl.1", "audit.jsonl.2", "audit.jsonl")]
    for number, path in enumerate(paths):
        path.write_bytes(body(number) + b"\n")
    found = records(raw_lines(paths))
    first = next(found)
    paths[1].unlink()
    paths[2].rename(tmp_path / "audit.jsonl.3")
    paths[2].write_bytes(body(9) + b"\n")
    assert numbers(itertools.chain([first], found)) == [0, 1, 2]


def test_only_so_many_files_are_open_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MAX_OPEN", 4)
    paths = [tmp_path / f"audit.jsonl.{number}" for number in range(9)]
    for number, path in enumerate(paths):
        path.write_bytes(body(number) + b"\n")
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    counts = [len(list(descriptors.iterdir())) - before for _ in records(raw_lines(paths))]
    assert max(counts) == 4
    assert numbers(records(raw_lines([*paths, paths[0]]))) == [*range(9), 0]


def test_the_name_of_a_file_does_not_command_the_terminal(tmp_path: Path) -> None:
    raw = RawLine(Path("audit.jsonl.\x1b[2J\x9b\u202e"), 7, b"")
    assert raw.place == "audit.jsonl.\ufffd[2J\ufffd\ufffd:7"


def test_rotated_files_are_read_the_oldest_lines_first(tmp_path: Path) -> None:
    names = ["audit.jsonl.2.gz", "audit.jsonl.1", "audit.jsonl-20261126", "audit.jsonl"]
    for number, name in enumerate(names):
        line = body(number).replace(b"01:02:03", b"01:02:0%d" % number) + b"\n"
        written = gzip.compress(line) if name.endswith(".gz") else line
        (tmp_path / name).write_bytes(written)
    for name in ("audit.jsonl.lock", "0123456789abcdef.spool", "other.jsonl"):
        (tmp_path / name).write_bytes(body(9))
    paths = file_and_rotated(tmp_path / "audit.jsonl")
    assert [path.name for path in paths] == names
    assert numbers(records(raw_lines(paths))) == [0, 1, 2, 3]


def test_files_of_our_own_are_in_order_although_the_clock_was_not(tmp_path: Path) -> None:
    names = [f"audit.jsonl.20261126T01020{number}000000Z" for number in (1, 2, 3)]
    for number, (name, hour) in enumerate(zip([*names, "audit.jsonl"], (9, 1, 8, 2), strict=True)):
        line = body(number).replace(b"01:02:03", b"%02d:02:03" % hour)
        assert b"T%02d:" % hour in line
        (tmp_path / name).write_bytes(line + b"\n")
    paths = file_and_rotated(tmp_path / "audit.jsonl")
    assert [path.name for path in paths] == [*names, "audit.jsonl"]


@pytest.mark.parametrize("count", [0, 1, 5, 2000])
def test_the_last_lines_are_read_from_the_end(tmp_path: Path, count: int) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join(body(number, "x" * 99) + b"\n" for number in range(1500)))
    found = [one for raw in last_lines(path, count) for one in read(raw)]
    first = max(0, 1500 - count)
    assert numbers(iter(found)) == list(range(first, 1500))


def test_a_file_is_followed_across_its_rotations(tmp_path: Path, place: Place) -> None:
    place.fill([0])
    seen: list[object] = []
    stopped = threading.Event()

    def watch() -> None:
        for raw in follow(place.path, lambda: not stopped.is_set()):
            seen.extend(numbers(read(raw)))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        # It starts at the end of the file at the time when the thread opens it.
        wait_until(lambda: bool(place.fill([500]) and seen))
        for number in range(1, 7):
            place.fill([number])
            wait_until(lambda number=number: number in seen)  # type: ignore[misc]
            if number % 2 == 0:
                place.path.rename(tmp_path / f"audit.jsonl.{number}")
                place.fill([number + 100])
                place.journal.reopen()
                wait_until(lambda number=number: number + 100 in seen)  # type: ignore[misc]
    finally:
        stopped.set()
        watching.join()
    assert [one for one in seen if isinstance(one, int) and one < 100] == [1, 2, 3, 4, 5, 6]


def test_a_truncated_file_is_followed_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(body(1) + b"\n" + body(2) + b"\n")
    looks = itertools.count()

    def goes_on() -> bool:
        if (look := next(looks)) == 1:
            path.write_bytes(body(3) + b"\n")
        return look < 4

    found = (one for raw in follow(path, goes_on) for one in read(raw))
    assert numbers(found) == [3]


def test_lines_that_another_writer_adds_to_the_rotated_file_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"")
    old = path.open("ab", buffering=0)
    looks = itertools.count()

    def goes_on() -> bool:
        look = next(looks)
        if look == 1:
            path.rename(tmp_path / "audit.jsonl.1")
            path.write_bytes(body(1) + b"\n")
        elif look in (3, 5):
            old.write(body(look) + b"\n")
        return look < 7

    with old:
        assert numbers(one for raw in follow(path, goes_on) for one in read(raw)) == [1, 3, 5]
