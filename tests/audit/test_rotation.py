"""Rotation by the server: with several writers, and without a line lost or duplicated."""

import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pexpolicy.audit.reader import file_and_rotated
from pexpolicy.audit.rotation import Rotation, first_time, rotated
from tests.audit.places import Place, body, faults, lines
from tests.support.fake_plugins import open_audit


class Watch:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 26, 1, 2, 3, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


class Rotated(Place):
    rotation = Rotation(size=2000)

    def __post_init__(self) -> None:
        def rotate(anyway: bool) -> bool:
            if not anyway and not self.rotation.is_due(self.path, self.file.size):
                return False
            return self.rotation.rotate(self.path, self.file.is_current)

        self.options = {"rotate": rotate}
        super().__post_init__()


def test_several_writers_rotate_one_file_and_lose_nothing(tmp_path: Path) -> None:
    places = [Rotated(tmp_path) for _ in range(3)]
    for place in places:
        place.rotation = Rotation(size=2000, clock=Watch())
    for number in range(600):
        place = places[number * 7 % 3]
        place.fill([number])
        if number % 5 == 0:
            place.clock.pass_by(1.0)
    paths = file_and_rotated(tmp_path / "audit.jsonl")
    assert len(paths) > 20
    assert sorted(line["n"] for line in lines(*paths)) == list(range(600))
    assert faults(*paths) == []


def test_only_so_many_are_kept_and_nothing_else_is_removed(tmp_path: Path) -> None:
    place = Rotated(tmp_path)
    place.rotation = Rotation(size=100, keep=3, clock=Watch())
    others = [tmp_path / name for name in ("audit.jsonl.1", "audit.jsonl.old", "audit.jsonl-x")]
    for other in others:
        other.write_text("mine\n")
    for number in range(9):
        place.fill([number])
        place.clock.pass_by(1.0)
    place.fill([9])
    assert [line["n"] for line in lines(*rotated(place.path))] == [6, 7, 8]
    assert all(other.exists() for other in others)


def test_a_name_with_characters_of_a_pattern_is_taken_literally(tmp_path: Path) -> None:
    path = tmp_path / "audit[1]*.jsonl"
    rotation = Rotation(keep=2, clock=Watch())
    for number in range(4):
        path.write_bytes(body(number) + b"\n")
        assert rotation.rotate(path, lambda: True)
    assert [line["n"] for line in lines(*rotated(path))] == [2, 3]
    assert file_and_rotated(path) == rotated(path)


def test_a_folder_that_cannot_be_synced_keeps_no_more_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "audit.jsonl"
    rotation = Rotation(keep=1, clock=Watch())
    for number in range(3):
        path.write_bytes(body(number) + b"\n")
        assert rotation.rotate(path, lambda: True)
    assert [line["n"] for line in lines(*rotated(path))] == [2]


@pytest.mark.parametrize("blanks", [b" " * 5000, b" " * 5000 + b"\n"])
def test_the_age_of_a_file_that_begins_with_a_torn_line_is_that_of_the_next(
    place: Place, blanks: bytes
) -> None:
    place.path.write_bytes(blanks)
    place.fill([1])
    began = first_time(place.path.read_bytes().splitlines())
    assert began == datetime(2026, 11, 26, 1, 2, 3, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "due"), [(23.9, False), (24.1, True), (-1.0, False), (-24.1, True)]
)
def test_the_age_is_that_of_the_first_line(place: Place, hours: float, due: bool) -> None:
    place.fill([1])
    began = first_time(place.path.read_bytes().splitlines())
    assert began == datetime(2026, 11, 26, 1, 2, 3, 4, tzinfo=UTC)
    rotation = Rotation(age=86400.0, clock=lambda: began + timedelta(hours=hours))
    assert rotation.is_due(place.path, place.file.size) is due


def test_a_rotation_that_another_writer_is_at_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(body(1))
    inner: list[bool] = []

    def identity() -> bool:
        inner.append(Rotation().rotate(path, lambda: True))
        return True

    assert Rotation().rotate(path, identity)
    assert inner == [False]
    assert not path.exists()


def test_a_folder_that_cannot_be_written_is_reported_once_a_second_at_most(tmp_path: Path) -> None:
    def rotate(anyway: bool) -> bool:
        raise PermissionError(13, "Permission denied")

    place = Place(tmp_path, options={"rotate": rotate})
    for number in range(10):
        place.fill([number])
        place.clock.pass_by(0.25)
    assert 1 <= len(place.alerts) <= 3
    assert place.numbers == list(range(10))


AHEAD = [f"audit.jsonl.2030010{day}T000000000000Z" for day in (1, 2, 3)]


@pytest.mark.parametrize("keep", [1, 2, 3, 5])
def test_what_was_rotated_while_the_clock_was_ahead_goes_first(tmp_path: Path, keep: int) -> None:
    place = Rotated(tmp_path)
    place.rotation = Rotation(size=100, keep=keep, clock=Watch())
    for number, name in enumerate(AHEAD):
        (tmp_path / name).write_bytes(body(number) + b"\n")
    for number in range(3, 8):
        place.fill([number])
        place.clock.pass_by(1.0)
        place.fill([])
        place.journal.tick()
        numbers = [line["n"] for line in lines(*rotated(place.path))]
        assert numbers == list(range(number + 1))[-keep:]
    assert all("T" in path.name and "2026" in path.name for path in rotated(place.path))


def test_a_crash_loop_rotates_at_each_start(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for life in range(6):
        audit = open_audit(path, rotate_mb=1, keep=2)
        # Half a megabyte in each life, which ends before the first check of the file.
        for number in range(600):
            audit.refused("unknown path", 404, f"10.{life}.{number % 250}.1", "", detail="x" * 900)
        audit.close()
    files = file_and_rotated(path)
    assert len(files) == 3
    assert all(file.stat().st_size < 2 << 20 for file in files)
    assert faults(*files) == []


def test_the_lock_is_not_made_where_a_link_leads(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(body(1) + b"\n")
    (tmp_path / "audit.jsonl.lock").symlink_to("elsewhere")
    with pytest.raises(OSError, match=r"audit\.jsonl\.lock"):
        Rotation(clock=Watch()).rotate(path, lambda: True)
    assert not (tmp_path / "elsewhere").exists()
