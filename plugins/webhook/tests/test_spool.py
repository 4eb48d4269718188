"""The spool: what was written is delivered once and in order, and survives the process."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from pexpolicy_webhook import spool as module
from pexpolicy_webhook.spool import Spool
from tests.support import forked
from tests.support.fake_plugins import Log

MANY = 1 << 30


def crash(spool: Spool) -> None:
    """Release files and locks as the end of the process does, and nothing else."""
    while spool._segments:
        segment = spool._segments.popleft()
        os.close(segment.fd)
        os.close(segment.position_fd)


class Queue(RuleBasedStateMachine):
    """Any order of writing, delivering, restarting and crashing, of two instances."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile  # noqa: PLC0415

        self._folder = tempfile.TemporaryDirectory()
        self._spools = [self._open(), self._open()]
        self._number = 0
        self._written: set[bytes] = set()
        self._delivered: list[bytes] = []

    def _open(self) -> Spool:
        return Spool(Path(self._folder.name), 1000 * module.MAX_OPEN)

    @rule(which=st.integers(0, 1), count=st.integers(1, 60))
    def write(self, which: int, count: int) -> None:
        events = [b"%d" % number for number in range(self._number, self._number + count)]
        self._number += count
        self._spools[which].append(events)
        self._written |= set(events)

    @rule(which=st.integers(0, 1), count=st.integers(1, 50), limit=st.integers(1, 300))
    def deliver(self, which: int, count: int, limit: int) -> None:
        taken = self._spools[which].take(count, limit)
        if taken is not None:
            segment, events = taken
            assert 1 <= len(events) <= count
            self._delivered += events
            self._spools[which].acknowledge(segment, events)

    @rule(which=st.integers(0, 1), orderly=st.booleans(), torn=st.booleans())
    def restart(self, which: int, orderly: bool, torn: bool) -> None:
        spool = self._spools[which]
        if orderly:
            spool.close()
        else:
            if torn and spool._segments:
                os.write(spool._segments[-1].fd, b"to")
            crash(spool)
        self._spools[which] = self._open()

    @rule(which=st.integers(0, 1))
    def adopt(self, which: int) -> None:
        self._spools[which].adopt()

    @invariant()
    def nothing_is_delivered_twice(self) -> None:
        assert len(self._delivered) == len(set(self._delivered))

    def teardown(self) -> None:
        self._spools[0].close()
        last = self._spools[1]
        last.adopt()
        while (taken := last.take(1000, MANY)) is not None:
            segment, events = taken
            self._delivered += events
            last.acknowledge(segment, events)
        last.close()
        assert set(self._delivered) == self._written
        assert len(self._delivered) == len(self._written)
        assert list(Path(self._folder.name).iterdir()) == []
        self._folder.cleanup()


@pytest.fixture(autouse=True, scope="module")
def _small_segments() -> object:
    before, module.SEGMENT_BYTES = module.SEGMENT_BYTES, 200
    yield
    module.SEGMENT_BYTES = before


def test_nothing_is_lost_doubled_or_left_behind() -> None:
    limits = settings(max_examples=30, stateful_step_count=40, deadline=None)
    run_state_machine_as_test(Queue, settings=limits)


def test_the_whole_folder_is_bounded_and_room_returns(tmp_path: Path) -> None:
    first, second = Spool(tmp_path, 1000), Spool(tmp_path, 1000)
    first.append([b"x" * 499])
    second.append([b"x" * 300])
    first.measure()
    with pytest.raises(OSError, match="is full"):
        first.append([b"x" * 300])
    taken = first.take(1, MANY)
    assert taken is not None
    first.acknowledge(*taken)
    assert first.take(1, MANY) is None
    first.append([b"x" * 300])
    assert sum(path.stat().st_size for path in tmp_path.glob("*.events")) == 602


def test_files_are_for_this_user_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "a" / "b", 1000)
    spool.append([b"x"])
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "a" / "b").iterdir()} == {0o600}
    spool.close()


@given(st.lists(st.binary(min_size=1).filter(lambda b: b"\n" not in b), min_size=1, max_size=20))
def test_events_of_any_size_come_back(
    tmp_path_factory: pytest.TempPathFactory, events: list[bytes]
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool"), 1 << 20)
    spool.append(events)
    found: list[bytes] = []
    while (taken := spool.take(3, 4)) is not None:
        found += taken[1]
        spool.acknowledge(*taken)
    assert found == events
    spool.close()


WRITER = """
import sys
from pathlib import Path
from pexpolicy_webhook.spool import Spool
from tests.support.fake_plugins import Log
spool = Spool(Path(sys.argv[1]), 1 << 30)
number = 0
while True:
    spool.append([b"%s-%d" % (sys.argv[2].encode(), n) for n in range(number, number + 10)])
    number += 10
    print(number, file=sys.stderr)
"""


def test_what_a_killed_process_wrote_is_delivered(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 30)
    found: dict[bytes, int] = {}
    expected = 0
    for trial in range(2):
        with forked.Process(str(tmp_path), f"w{trial}", program=WRITER) as writer:
            reported = [writer.stderr.readline() for _ in range(20 + trial * 7)]
            writer.kill()
            reported += writer.stderr.read().splitlines()
        expected += int(reported[-1])
        spool.adopt()
        while (taken := spool.take(100, MANY)) is not None:
            for event in taken[1]:
                name, _, number = event.partition(b"-")
                assert int(number) == found.get(name, -1) + 1, "in order, and none is missing"
                found[name] = int(number)
            spool.acknowledge(*taken)
    assert len(found) == 2
    assert sum(found.values()) + 2 >= expected > 0
    spool.close()
    assert list(tmp_path.iterdir()) == []


def directory(path: Path) -> None:
    path.mkdir()


def link(path: Path) -> None:
    (path.parent / "elsewhere").write_bytes(b"not an event\n")
    path.symlink_to("elsewhere")


def linked_position(path: Path) -> None:
    path.write_bytes(b"event\n")
    (path.parent / "elsewhere").touch()
    path.with_suffix(".position").symlink_to("elsewhere")


@pytest.mark.parametrize("make", [directory, link, linked_position])
def test_a_file_that_is_no_segment_keeps_no_event_back(
    tmp_path: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "log", log := Log())
    make(tmp_path / "0.events")
    spool = Spool(tmp_path, 1 << 20)
    spool.append([b"x"])
    spool.adopt()
    taken = spool.take(10, MANY)
    assert taken is not None
    assert taken[1] == [b"x"]
    spool.acknowledge(*taken)
    assert spool.take(10, MANY) is None
    spool.close()
    assert [event["event"] for event in log.events] == ["a file of the spool is left out"]
    assert (tmp_path / "0.events").exists() or (tmp_path / "0.events").is_symlink()


def test_a_segment_of_another_user_keeps_no_event_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Spool(tmp_path, 1000)
    first.append([b"x"])
    crash(first)
    with monkeypatch.context() as patched:
        patched.setattr(module, "_position_of", refused)
        other = Spool(tmp_path, 1000)
    other.append([b"y"])
    taken = other.take(1, MANY)
    assert taken is not None
    assert taken[1] == [b"y"]
    other.close()


def refused(_: Path) -> int:
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_truncated_segment_is_told_and_the_next_one_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "log", log := Log())
    spool = Spool(tmp_path, 1 << 20)
    spool.append([b"first", b"second"])
    (segment,) = tmp_path.glob("*.events")
    os.truncate(segment, 3)
    assert spool.take(10, MANY) is None
    assert [event["bytes"] for event in log.events] == [len("first second ")]
    spool.append([b"third"])
    taken = spool.take(10, MANY)
    assert taken is not None
    assert taken[1] == [b"third"]
    spool.acknowledge(*taken)
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_few_files_are_open_however_much_waits(tmp_path: Path) -> None:
    def opened() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    before, event = opened(), b"x" * 9_999
    for _ in range(100):
        spool = Spool(tmp_path, 4 * MANY)
        spool.append([event])
        crash(spool)
    spool = Spool(tmp_path, 4 * MANY)
    assert opened() - before <= 2 * module.MAX_OPEN
    for _ in range(100):
        spool.adopt()
        taken = spool.take(1, MANY)
        assert taken is not None
        spool.acknowledge(*taken)
    spool.adopt()
    assert spool.take(1, MANY) is None
    spool.close()
    assert opened() == before
