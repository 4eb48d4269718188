"""The index: what it finds, and what it survives."""

import errno
import gzip
import itertools
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.audit.reader import open_file
from pexpolicy.audit.redaction import keyed_hash
from pexpolicy.models.alias import Alias
from pexpolicy_console.index import audit_files
from pexpolicy_console.index.audit_files import AuditFile, AuditFiles
from pexpolicy_console.index.index import Index
from pexpolicy_console.index.query import Query
from pexpolicy_console.index.reader import LIMIT_S, IndexReader, took_too_long
from pexpolicy_console.index.writer import IndexWriter, bucket_bounds, bucket_of, segments
from pexpolicy_console.pages.plugins import by_minute, tallies
from tests.support import audit_lines, forked
from tests.support.audit_lines import EPOCH, append, line
from tests.support.waiting import wait_until

MEGABYTE = 1 << 20
COUNT = 3_000
"""Lines of a long file."""
KNOWN_ID = audit_lines.decision_id(EPOCH, 7)


class Indexed:
    """An audit file and its index."""

    def __init__(self, folder: Path, segment_lines: int = 500_000, max_mb: int = 4096) -> None:
        self.audit = folder / "audit.jsonl"
        self.folder = folder / "index"
        self.segment_lines, self.max_bytes = segment_lines, max_mb * MEGABYTE
        self.writers: list[IndexWriter] = []
        self.writer = self.new_writer()
        # No search of a busy machine takes too long.
        self.reader = IndexReader(self.folder, self.audit, clock=lambda: 0.0)

    def new_writer(self) -> IndexWriter:
        self.writers.append(
            IndexWriter(self.folder, self.audit, self.max_bytes, self.segment_lines)
        )
        return self.writers[-1]

    def close(self) -> None:
        for writer in self.writers:
            writer.close()

    def update(self) -> None:
        while self.writer.step():
            pass

    def add(self, *lines: dict[str, Any]) -> None:
        append(self.audit, lines)
        self.update()

    def numbers(self, **filters: str) -> list[int]:
        """Return the sequence numbers of the lines that match, the oldest first."""
        hits = self.reader.search(Query(**filters), limit=100_000)
        return [hit.event["seq"] - 1 for hit in reversed(hits) if hit.event is not None]


@pytest.fixture
def index_of(tmp_path: Path) -> Iterator[Callable[..., Indexed]]:
    """Return a function that makes an index with limits, which is closed after the test."""
    made: list[Indexed] = []

    def make(**limits: int) -> Indexed:
        made.append(Indexed(tmp_path, **limits))
        return made[-1]

    yield make
    for indexed in made:
        indexed.close()


@pytest.fixture
def indexed(index_of: Callable[..., Indexed]) -> Indexed:
    return index_of()


def test_lines_are_found_by_their_environment(indexed: Indexed) -> None:
    indexed.add(*(line(n, environment=name) for n, name in enumerate(("emea", "apac", "emea"))))
    indexed.add(line(3))
    assert indexed.numbers(environment="EMEA") == [0, 2]


@pytest.mark.parametrize(
    "spelling",
    [
        "room3@example.com",
        "SIP:Room3@EXAMPLE.com:5061;transport=tls",
        "room3",
        "h323:room3",
        "room*",
    ],
)
def test_an_alias_is_found_in_any_spelling(indexed: Indexed, spelling: str) -> None:
    indexed.add(*(line(number) for number in range(1, 6)))
    expected = [1, 2, 3, 4, 5] if spelling == "room*" else [3]
    assert indexed.numbers(called=spelling) == expected
    assert indexed.numbers(alias=spelling) == expected
    assert indexed.numbers(caller=spelling) == []


@pytest.mark.parametrize(
    ("filters", "fields"),
    [
        ({"action": "reject"}, {"action": "reject"}),
        ({"decided_by": "rules"}, {"decided_by": "rules"}),
        ({"endpoint": "media_location"}, {"endpoint": "media_location"}),
        ({"node": "10.44.7.9"}, {"request": {"node_ip": "10.44.7.9"}}),
        ({"node": "10.44.7.9"}, {"peer": "10.44.7.9", "request": {"node_ip": ""}}),
        ({"caller": "bob@example.com"}, {"request": {"remote_alias": "sip:Bob@example.com"}}),
        ({"caller": "Bob Builder"}, {"request": {"remote_display_name": "Bob Builder"}}),
        ({"caller": "builder"}, {"request": {"remote_display_name": "Bob Builder (Oslo)"}}),
        ({"alias": "ØSTBY"}, {"request": {"remote_display_name": "Østby, Karl"}}),
        ({"alias": "10.10.1.23"}, {"request": {"remote_address": "10.10.1.23"}}),
        ({"alias": "fd00::17"}, {"request": {"remote_address": "fd00::17"}}),
        ({"alias": "10.44.7.9"}, {"request": {"node_ip": "10.44.7.9"}}),
        ({"reason": f"answered, there {KNOWN_ID}"}, {"reason": f"answered, there {KNOWN_ID}"}),
        ({"reason": "answered, there *"}, {"reason": f"answered, there {KNOWN_ID}"}),
        ({"alias": "Board room"}, {"sent": {"name": "Board Room"}}),
        ({"alias": "oar"}, {"sent": {"name": "Board Room"}}),
        ({"alias": "bob@exam"}, {"request": {"remote_alias": "sip:bob@example.com"}}),
        ({"alias": "Muller"}, {"request": {"remote_display_name": "Jörg Müller"}}),
        ({"alias": "mueller"}, {"request": {"remote_display_name": "Jörg Müller"}}),
        ({"alias": "ostby"}, {"request": {"remote_alias": "erik.østby@example.com"}}),
        ({"room": "board room"}, {"sent": {"name": "Board Room"}}),
        ({"room": "board*"}, {"sent": {"name": "Board Room"}}),
        ({"rule": "night"}, {"reason": "rule Night: no cleaning"}),
        ({"reason": "no plugin decided"}, {"reason": "no plugin decided"}),
        ({"slower": "900"}, {"ms": 901.0}),
        ({"plugin": "ldap"}, {"steps": [{"plugin": "ldap", "outcome": "failed", "ms": 1}]}),
        ({"outcome": "failed"}, {"steps": [{"plugin": "ldap", "outcome": "failed", "ms": 1}]}),
        ({"event": "shadow"}, {"event": "shadow"}),
        ({"since": "2023-11-18"}, {"at": EPOCH + 5 * 86_400_000}),
        ({"since": "2023-11-15 21:00:00", "zone": "Asia/Tokyo"}, {"at": EPOCH + 7_200_000}),
    ],
)
def test_a_filter_finds_its_lines_and_no_others(
    indexed: Indexed, filters: dict[str, str], fields: dict[str, Any]
) -> None:
    at = fields.pop("at", None)
    indexed.add(line(1), line(2, at, **fields), line(3))
    assert indexed.numbers(**filters) == [2]


def test_filters_are_combined(indexed: Indexed) -> None:
    indexed.add(
        line(1, action="reject"), line(2), line(3, action="reject", endpoint="media_location")
    )
    assert indexed.numbers(action="reject", endpoint="media_location") == [3]
    assert indexed.numbers(action="reject", alias="room1") == [1]


@given(st.text(min_size=1, max_size=40))
def test_the_text_of_a_filter_is_never_an_expression(text: str) -> None:
    expression = Query(alias=text, room=text, reason=text).expression()
    assert expression.count('"') == 2 * expression.count(":") or ":" in text
    assert all(part.startswith('"') for part in expression.strip("()").split(" OR "))


def test_texts_of_a_caller_cannot_match_other_filters(indexed: Indexed) -> None:
    texts = ["x t:reject", 'x" OR "t:reject', "x\0t:reject", "x\nt:reject", "x'; DROP TABLE line"]
    indexed.add(
        *(line(number, request={"remote_alias": text}) for number, text in enumerate(texts, 1))
    )
    assert indexed.numbers(action="reject") == []
    for number, text in enumerate(texts, 1):
        assert number in indexed.numbers(caller=text)


def test_hashed_aliases_are_found_by_the_alias(index_of: Callable[..., Indexed]) -> None:
    hashed = keyed_hash(b"a key of the privacy table")
    indexed = index_of()
    indexed.add(line(1, request={"remote_alias": hashed(Alias("sip:bob@example.com"))}), line(2))
    reader = IndexReader(indexed.folder, indexed.audit, hashed)
    (hit,) = reader.search(Query(alias="SIP:Bob@example.com"))
    assert hit.event is not None
    assert hit.event["seq"] == 2


def test_a_decision_is_found_by_its_identifier(indexed: Indexed) -> None:
    indexed.add(*(line(number) for number in range(50)))
    wanted = line(20)["decision_id"]
    hit = indexed.reader.decision(wanted.upper())
    assert hit is not None
    assert hit.event is not None
    assert hit.event["decision_id"] == wanted
    assert indexed.reader.decision(audit_lines.decision_id(EPOCH, 999)) is None
    assert indexed.reader.decision("../../etc/passwd") is None


def test_the_requests_of_one_call_are_found_together(indexed: Indexed) -> None:
    caller = {"remote_alias": "sip:eve@example.com", "remote_address": "10.1.1.1"}
    room = {"local_alias": "sip:board@example.com", **caller}
    indexed.add(
        line(1, request=room),
        line(2),
        line(
            3,
            endpoint="participant_properties",
            request={**room, "local_alias": "board@example.com"},
        ),
        line(4, endpoint="media_location", request=room),
        line(5, request={**room, "remote_address": "10.9.9.9"}),
        line(6, EPOCH + 3_600_000, request=room),
    )
    first = indexed.reader.decision(line(1)["decision_id"])
    assert first is not None
    found = indexed.reader.same_call(first)
    assert [hit.event["seq"] - 1 for hit in found if hit.event] == [1, 3, 4]


def test_a_call_is_listed_once_with_the_worst_of_its_lines(indexed: Indexed) -> None:
    found = []
    for call in range(30):
        request = {"remote_alias": f"sip:caller{call}@example.com", "local_alias": "a@example.com"}
        for part in range(3):
            number = 3 * call + part
            refused = {"action": "reject"} if call % 2 and part == 1 else {}
            found.append(line(number, EPOCH + 60_000 * call + part, request=request, **refused))
    indexed.add(*found)
    expected = [3 * call + call % 2 for call in reversed(range(30))]
    listed: list[int] = []
    before = None
    while True:
        hits, before = indexed.reader.calls(Query(), before, 7)
        listed += [hit.event["seq"] - 1 for hit in hits if hit.event is not None]
        if before is None:
            break
    assert listed == expected
    start = EPOCH // 1000
    counts = indexed.reader.over_time(Query(), start, start + 1800, 3)
    assert counts == [[0, 0, 0], *[[5, 5, 0]] * 3]


def test_counts_are_those_of_the_view(indexed: Indexed) -> None:
    indexed.add(*(line(n, action="reject" if n % 3 == 0 else "continue") for n in range(30)))
    total, counters = indexed.reader.counts(Query())
    assert total == 30
    assert counters["action"] == Counter({"continue": 20, "reject": 10})
    total, counters = indexed.reader.counts(Query(action="reject"))
    assert (total, counters["node"]) == (10, Counter({"10.44.7.5": 10}))


def test_reasons_that_differ_by_an_identifier_are_counted_together(indexed: Indexed) -> None:
    ids = (audit_lines.decision_id(EPOCH, number) for number in range(5))
    indexed.add(*(line(n, reason=f"asked, there {one}") for n, one in enumerate(ids)))
    _, counters = indexed.reader.counts(Query())
    assert counters["reason"] == Counter({"asked, there *": 5})
    (found,) = counters["reason"]
    assert indexed.numbers(reason=found) == [0, 1, 2, 3, 4]


def test_a_search_ends_when_its_time_is_over(indexed: Indexed) -> None:
    indexed.add(*(line(number) for number in range(500)))
    times = itertools.chain([0.0, *[LIMIT_S] * 2], itertools.repeat(LIMIT_S + 1))
    reader = IndexReader(indexed.folder, indexed.audit, clock=lambda: next(times))
    with pytest.raises(sqlite3.OperationalError) as raised:
        reader.search(Query(alias="room*"), limit=1000)
    assert took_too_long(raised.value)


def test_calls_steps_and_differences_of_a_minute_are_counted(indexed: Indexed) -> None:
    shadows = (line(n, event="shadow", differs=n > 200) for n in range(200, 203))
    indexed.add(*(line(n, EPOCH + n * 1000, ms=float(n)) for n in range(120)), *shadows)
    calls, found = tallies(indexed.reader.minutes(EPOCH // 60_000, EPOCH // 60_000 + 17))
    assert calls == {"service_configuration": 120}
    assert (found["", "rooms"].asked, found["", "rooms"].differences) == (123, 2)
    minutes = by_minute(indexed.reader, line(0)["steps"][0]["plugin"], EPOCH / 1000 + 1000)
    assert (sum(good for _, good, _ in minutes), len(minutes)) == (123, 60)
    assert sum(at <= EPOCH / 1000 + 120 for at, good, _ in minutes if good) == 3


@given(st.integers(0, 10**9))
def test_a_bucket_holds_its_durations(us: int) -> None:
    bucket = bucket_of(us)
    assert us < bucket_bounds(bucket)[1] <= us * 1.25 + 1.01
    # No duration is in the buckets from 4 to 7.
    assert bucket_of(bucket_bounds(bucket)[1]) == (8 if bucket == 3 else bucket + 1)


def test_older_lines_follow_without_gap(indexed: Indexed) -> None:
    indexed.add(*(line(number) for number in range(25)))
    seen: list[int] = []
    before = None
    while hits := indexed.reader.search(Query(), before, 10):
        seen += [hit.event["seq"] - 1 for hit in hits if hit.event]
        before = hits[-1].id
    assert seen == list(range(24, -1, -1))


def test_a_line_is_indexed_when_it_is_whole(indexed: Indexed) -> None:
    whole = audit_lines.encoded([line(1)])
    with indexed.audit.open("wb", buffering=0) as file:
        file.write(whole[:100])
        indexed.update()
        assert indexed.numbers() == []
        file.write(whole[100:])
        indexed.update()
    assert indexed.numbers() == [1]


@pytest.mark.parametrize(
    "damage",
    [
        {"ms": 1e308},
        {"ms": 1e30},
        {"ms": -1},
        {"steps": [{"plugin": "rooms", "outcome": "decided", "ms": 1e308}]},
        {"timestamp": "0001-01-01T00:00:00"},
        {"timestamp": "2026-11-18T11:07:47"},
        {"timestamp": 1e30},
    ],
)
def test_a_number_or_time_that_no_server_wrote_is_passed_over(
    indexed: Indexed, damage: dict[str, Any]
) -> None:
    indexed.add(line(0), line(1) | damage, line(2))
    assert indexed.numbers() == [0, 2]


def test_damage_is_counted_and_passed_over(indexed: Indexed) -> None:
    torn = audit_lines.encoded([line(9)])[:80]
    content = audit_lines.encoded([line(1)]) + b" " * 70 + b"\n" + b"not a line\n"
    indexed.audit.write_bytes(content + torn + audit_lines.encoded([line(2)]))
    indexed.update()
    assert indexed.numbers(called="room1") == [1]
    (after_torn,) = indexed.reader.search(Query(called="room2"))
    assert after_torn.event == line(2)
    assert indexed.writer.state.damaged == 1


def test_rotated_and_compressed_files_keep_their_lines(indexed: Indexed) -> None:
    indexed.add(*(line(number) for number in range(5)))
    rotated = indexed.audit.with_name("audit.jsonl.20261120T000000000000Z")
    indexed.audit.rename(rotated)
    # A worker that has not noticed yet.
    append(rotated, [line(5)])
    indexed.add(line(6), line(7))
    assert indexed.numbers() == [0, 1, 2, 3, 4, 5, 6, 7]
    compressed = rotated.with_name(rotated.name + ".gz")
    compressed.write_bytes(gzip.compress(rotated.read_bytes()))
    indexed.update()
    rotated.unlink()
    indexed.update()
    assert indexed.numbers() == [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.fixture
def compressed(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Lines as logrotate compresses them, of several parts; numbers that differ keep them long."""
    monkeypatch.setattr(audit_files, "CHUNK", 300_000)
    return gzip.compress(audit_lines.encoded(line(n, hash=f"{n:x}" * 40) for n in range(COUNT)))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[IO[bytes]]:
    """Return the list to which each file is added that is opened: for its head, and its lines."""
    files: list[IO[bytes]] = []

    def opening(path: Path) -> IO[bytes]:
        files.append(open_file(path))
        return files[-1]

    monkeypatch.setattr(audit_files, "open_file", opening)
    return files


def test_a_compressed_file_is_decompressed_once_and_closed(
    indexed: Indexed, opened: list[IO[bytes]], compressed: bytes
) -> None:
    indexed.audit.with_name("audit.jsonl.1.gz").write_bytes(compressed)
    indexed.update()
    assert [file.closed for file in opened] == [True, True]
    assert indexed.numbers() == list(range(COUNT))


def test_a_compressed_file_that_is_removed_before_its_end_is_closed(
    indexed: Indexed, opened: list[IO[bytes]], compressed: bytes
) -> None:
    path = indexed.audit.with_name("audit.jsonl.1.gz")
    path.write_bytes(compressed)
    assert indexed.writer.step()
    assert [file.closed for file in opened] == [True, False]
    path.unlink()
    indexed.update()
    assert [file.closed for file in opened] == [True, True]


def test_the_part_of_a_damaged_compressed_file_before_the_damage_is_indexed(
    indexed: Indexed, compressed: bytes
) -> None:
    path = indexed.audit.with_name("audit.jsonl.1.gz")
    path.write_bytes(compressed[: len(compressed) * 9 // 10])
    indexed.add(line(COUNT + 1))
    found = indexed.numbers()
    assert found[-1] == COUNT + 1
    assert found[:-1] == list(range(len(found) - 1))
    assert len(found) > COUNT // 4
    assert indexed.writer.state.damaged == 1
    assert not indexed.writer.step()
    # It was copied in parts, and is whole now.
    path.write_bytes(compressed)
    indexed.update()
    assert sorted(indexed.numbers()) == [*range(COUNT), COUNT + 1]


def test_a_file_that_is_renamed_after_the_scan_is_read_under_its_new_name(
    indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(indexed.audit, [line(1), line(2)])
    scan = AuditFiles.scan

    def scan_then_rotate(files: AuditFiles) -> list[AuditFile]:
        found = scan(files)
        if indexed.audit.exists():
            indexed.audit.rename(indexed.audit.with_name("audit.jsonl.1"))
        return found

    monkeypatch.setattr(AuditFiles, "scan", scan_then_rotate)
    indexed.update()
    assert indexed.numbers() == [1, 2]


def test_files_that_were_rotated_before_the_start_are_indexed(
    tmp_path: Path, index_of: Callable[..., Indexed]
) -> None:
    audit = tmp_path / "audit.jsonl"
    append(audit, [line(1)])
    (tmp_path / "audit.jsonl.2.gz").write_bytes(gzip.compress(audit.read_bytes()))
    audit.unlink()
    append(tmp_path / "audit.jsonl.1", [line(2)])
    append(audit, [line(3)])
    indexed = index_of()
    indexed.update()
    assert indexed.numbers() == [1, 2, 3]
    indexed.writer = indexed.new_writer()
    assert not indexed.writer.step()


def test_a_line_that_left_the_audit_is_not_shown(indexed: Indexed) -> None:
    indexed.add(line(1))
    indexed.audit.unlink()
    (hit,) = indexed.reader.search(Query())
    assert hit.event is None


def test_the_index_stays_within_its_size(index_of: Callable[..., Indexed]) -> None:
    indexed = index_of(segment_lines=1000, max_mb=1)
    for start in range(0, 12_000, 1000):
        indexed.add(*(line(number) for number in range(start, start + 1000)))
    found = indexed.numbers()
    assert found == list(range(found[0], 12_000))
    assert 0 < found[0] < 11_000
    assert indexed.writer.state.size < 2 * MEGABYTE
    assert indexed.writer.state.lines == len(found)


def test_a_finished_segment_has_one_tree_of_words_and_no_free_pages(
    index_of: Callable[..., Indexed],
) -> None:
    indexed = index_of(segment_lines=1000)
    for start in range(0, 1200, 200):
        indexed.add(*(line(number) for number in range(start, start + 200)))
    finished, newest = segments(indexed.folder)
    assert newest.stem == "000002"
    with closing(sqlite3.connect(finished)) as base:
        assert base.execute("SELECT count(DISTINCT segid) FROM word_idx").fetchone() == (1,)
        assert base.execute("PRAGMA freelist_count").fetchone() == (0,)


@pytest.mark.parametrize("name", ["bob", "sip:bob", "BOB"])
def test_a_name_without_a_host_is_found_with_any(indexed: Indexed, name: str) -> None:
    callers = ("sip:Bob@example.com", "bob", "bob@other.example", "bobby@example.com", "bob.by@x.y")
    indexed.add(*(line(n, request={"remote_alias": c}) for n, c in enumerate(callers, 1)))
    assert indexed.numbers(caller=name) == [1, 2, 3]
    assert indexed.numbers(caller="bob@example.com") == [1]


@pytest.mark.parametrize("damage", [b"", b"not a database" * 1000])
def test_a_damaged_index_is_built_again(indexed: Indexed, damage: bytes) -> None:
    indexed.add(line(1), line(2))
    indexed.writer.close()
    for path in segments(indexed.folder):
        path.write_bytes(damage)
    indexed.writer = indexed.new_writer()
    indexed.update()
    assert indexed.numbers() == [1, 2]


def test_a_killed_writer_continues_without_gap_and_without_repetition(
    tmp_path: Path, index_of: Callable[..., Indexed]
) -> None:
    append(tmp_path / "audit.jsonl", (line(number) for number in range(COUNT)))
    indexed = index_of(segment_lines=COUNT // 6)
    program = (
        "import sys; from pathlib import Path; from pexpolicy_console.index import audit_files;"
        "audit_files.CHUNK = 20_000; from pexpolicy_console.index.writer import IndexWriter;"
        f"w = IndexWriter(Path(sys.argv[1]), Path(sys.argv[2]), 1 << 40, {COUNT // 6});"
        "\nwhile w.step(): print('a step', file=sys.stderr)"
    )
    for steps in (1, 5, 25):
        with forked.Process(str(indexed.folder), str(indexed.audit), program=program) as process:
            assert all(process.stderr.readline() for _ in range(steps))
            process.kill()
    indexed.update()
    assert indexed.numbers() == list(range(COUNT))
    assert len(indexed.reader.search(Query(caller="alice"), limit=50_000)) == COUNT


def test_a_copy_of_the_audit_hides_no_newer_line(indexed: Indexed) -> None:
    indexed.add(line(1), line(2))
    for name in ("audit.jsonl.bak", "audit.jsonl-copy"):
        indexed.audit.with_name(name).write_bytes(indexed.audit.read_bytes())
    indexed.add(line(3))
    assert indexed.numbers() == [1, 2, 3]


def test_a_file_that_was_cut_is_indexed_again(indexed: Indexed) -> None:
    indexed.add(*(line(number) for number in range(10)))
    content = indexed.audit.read_bytes().splitlines(keepends=True)
    indexed.audit.write_bytes(b"".join(content[:3]))
    indexed.add(*(line(number) for number in range(20, 26)))
    assert indexed.numbers() == [0, 1, 2, *range(20, 26)]
    assert indexed.numbers(called="room5@example.com") == []


def test_a_file_that_cannot_be_read_is_named(
    indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexed.add(line(1))
    opened = Path.open

    def refused(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path == indexed.audit:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refused)
    indexed.update()
    assert indexed.writer.state.problem == f"{indexed.audit} cannot be read: Permission denied"
    monkeypatch.undo()
    indexed.add(line(2))
    assert indexed.writer.state.problem == ""
    assert indexed.numbers() == [1, 2]


def test_a_folder_that_is_away_is_named(tmp_path: Path) -> None:
    writer = IndexWriter(tmp_path / "index", tmp_path / "logs/audit.jsonl", MEGABYTE)
    assert not writer.step()
    assert writer.state.problem == f"{tmp_path}/logs cannot be read: No such file or directory"
    writer.close()


@pytest.mark.parametrize("name", ["lock", "000001.db"])
def test_a_link_that_another_user_has_planted_is_not_written_to(tmp_path: Path, name: str) -> None:
    append(tmp_path / "audit.jsonl", [line(1)])
    (tmp_path / "victim").write_text("all")
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / name).symlink_to(tmp_path / "victim")
    index = Index(tmp_path / "index", tmp_path / "audit.jsonl")
    index.open()
    wait_until(lambda: index.state.problem or index.state.lines)
    index.close()
    assert (tmp_path / "victim").read_text() == "all"


def test_one_console_at_a_time_writes_an_index(tmp_path: Path) -> None:
    append(tmp_path / "audit.jsonl", [line(1)])
    first, second = (Index(tmp_path / "index", tmp_path / "audit.jsonl") for _ in range(2))
    first.open()
    try:
        wait_until(lambda: first.state.lines)
        second.open()
        wait_until(lambda: second.state.problem)
        assert "another console with this folder" in second.state.problem
        assert first.state.problem == ""
    finally:
        for index in (first, second):
            index.close()
