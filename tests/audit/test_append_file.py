"""The append-only file: whole lines by several writers, while it is renamed, deleted or full."""

import multiprocessing
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pexpolicy.audit.hash_chain import HashChain, last_position
from pexpolicy.audit.journal import FILE_DELETED
from pexpolicy.audit.targets import AppendFile, free_space, tail_of
from tests.audit.places import Place, body, chained, faults, lines
from tests.support.waiting import HANG_S

APART = multiprocessing.get_context("spawn")
WRITERS, LINES = 2, 400
LIMITED = """
import resource, signal, sys
from pathlib import Path
from tests.audit.places import Place, body
together, parent, *limits = sys.argv[1:]
together = int(together)
for limit in limits:
    folder = Path(parent, limit)
    folder.mkdir()
    place = Place(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    for number in range(0, 30, together):
        batch = range(number, number + together)
        place.journal.record(*(body(one, "x" * 150) for one in batch))
    print(place.status, place.state.buffered_bytes > 0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    place.recover()
    print(place.status, place.state.buffered_bytes)
"""


def append(folder: Path, writer: int) -> None:
    place = Place(folder)
    for number in range(LINES):
        place.journal.record(body(writer * LINES + number, "x" * (number * 37 % 9000)))
    place.journal.close()


def test_several_processes_write_whole_lines_into_one_file(tmp_path: Path) -> None:
    processes = [APART.Process(target=append, args=(tmp_path, n)) for n in range(WRITERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    path = tmp_path / "audit.jsonl"
    assert sorted(line["n"] for line in lines(path)) == list(range(WRITERS * LINES))
    assert faults(path) == []


@pytest.mark.parametrize("together", [1, 3])
def test_lines_that_do_not_fit_leave_nothing_of_them(tmp_path: Path, together: int) -> None:
    limits = [str(limit) for limit in (1, *range(1000, 1010), 1500, 4096, 4100)]
    command = (sys.executable, "-c", LIMITED, str(together), str(tmp_path), *limits)
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=HANG_S)
    assert output.stdout == "degraded True\nhealthy 0\n" * len(limits)
    for limit in limits:
        path = tmp_path / limit / "audit.jsonl"
        assert [line["n"] for line in lines(path)] == list(range(30))
        assert faults(path) == []


def test_half_a_line_of_a_writer_that_died_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    half = (b'{"timestamp":"2026' + b"x" * 512)[:512]
    path.write_bytes(half)
    Place(tmp_path).fill([1])
    blank, whole = path.read_bytes().splitlines()
    assert blank == b" " * 512
    assert b'"n":1' in whole
    assert faults(path) == []


def test_what_other_programs_wrote_to_the_same_output_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "output"
    path.write_bytes((b'{"timestamp":"2026' + b"x" * 512)[:512])
    AppendFile(path, audit_only=False).close(0)
    assert path.read_bytes() == (b'{"timestamp":"2026' + b"x" * 512)[:512] + b"\n"


def test_a_deleted_file_is_noticed_within_a_second_and_costs_no_line(place: Place) -> None:
    place.fill(range(3))
    place.clock.pass_by(1.0)
    place.fill([3])
    place.path.unlink()
    place.fill([4, 5])
    assert not place.path.exists()
    place.clock.pass_by(1.0)
    place.fill([6])
    assert place.numbers == [3, 4, 5, 6]
    assert place.alerts == [FILE_DELETED]


def test_an_empty_file_may_be_deleted_without_a_word(place: Place) -> None:
    place.path.unlink()
    place.clock.pass_by(1.0)
    place.fill([1])
    assert place.numbers == [1]
    assert place.alerts == []


def test_a_file_that_was_replaced_is_noticed_too(tmp_path: Path, place: Place) -> None:
    place.fill([1])
    other = tmp_path / "other"
    other.write_text("")
    place.path.rename(tmp_path / "renamed")
    other.rename(place.path)
    place.fill([2])
    place.clock.pass_by(1.0)
    place.fill([3])
    assert place.numbers == [3]
    assert place.alerts == []
    assert [line["n"] for line in lines(tmp_path / "renamed")] == [1, 2]
    assert faults(tmp_path / "renamed", place.path) == []


def test_a_deleted_folder_that_comes_back_costs_no_line(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    place = Place(folder)
    place.clock.pass_by(1.0)
    place.journal.tick()
    shutil.rmtree(folder)
    place.fill(range(3))
    place.clock.pass_by(1.0)
    place.fill([3])
    assert place.status == "degraded"
    folder.mkdir()
    place.recover()
    place.fill([4])
    assert place.numbers == [0, 1, 2, 3, 4]
    assert faults(place.path) == []
    assert place.status == "healthy"


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    AppendFile(tmp_path / "a").close(0)
    assert (tmp_path / "a").stat().st_mode & 0o077 == 0


def test_the_last_line_is_that_of_the_open_file_also_after_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    ours, theirs = HashChain(), HashChain()
    path.write_bytes(chained(ours, body(1), body(2)))
    file = AppendFile(path)
    path.rename(tmp_path / "rotated")
    path.write_bytes(chained(theirs, body(3)))
    assert last_position(file.tail()) == b"%b:2:%b" % (ours.boot_id.encode(), ours.head)
    assert last_position(tail_of(path)) == b"%b:1:%b" % (theirs.boot_id.encode(), theirs.head)
    assert last_position(tail_of(tmp_path / "absent")) == last_position(b"") == b""
    file.close(0.0)


def test_free_space_is_that_of_df(tmp_path: Path) -> None:
    report = subprocess.run(
        ["df", "--block-size=1", "--output=avail,pcent", tmp_path],
        check=True,
        capture_output=True,
        text=True,
    )
    available, used = report.stdout.split()[-2:]
    free, percent = free_space(tmp_path)
    assert free == pytest.approx(int(available), rel=0.05)
    assert percent == pytest.approx(100 - int(used[:-1]), abs=2)
