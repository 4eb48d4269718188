"""Torn lines of killed writers are overwritten; everything else stays."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.audit import targets
from pexpolicy.audit.hash_chain import HashChain
from pexpolicy.audit.reader import Fault, raw_lines, records
from pexpolicy.audit.targets import LINE_START, SMALLEST_BLOCK, repair_file, repair_torn_lines
from tests.audit.places import body, chained


def chained_lines(count: int, text: str = "x") -> list[bytes]:
    """Lines of one writer."""
    chain = HashChain()
    return [chained(chain, body(number, text)) for number in range(count)]


def long(length: int) -> bytes:
    """Return a line of `length` bytes."""
    rest = length - len(chained_lines(1, "x")[0])
    line = chained_lines(1, "x" * (rest + 1))[0]
    assert len(line) == length
    return line


def numbers(path: Path) -> tuple[list[int], list[str]]:
    """Return the numbers of the lines that can be read, and the damage."""
    found = list(records(raw_lines([path])))
    damaged = [one.text for one in found if isinstance(one, Fault)]
    return [one.event["n"] for one in found if not isinstance(one, Fault)], damaged


def half(line: bytes, at: int, blocks: int) -> bytes:
    """Return the rest of a line after `before` bytes whose write ended at a later block."""
    end = (at // SMALLEST_BLOCK + blocks) * SMALLEST_BLOCK
    return line[: max(end - at, 0)]


texts = st.sampled_from(["x", "ä\u2028", 'a"}b\n{"timestamp":"'])
written = st.lists(st.tuples(st.integers(0, 3), texts, st.integers(0, 500)), max_size=12)


@given(written, st.integers(0, 3))
def test_whatever_was_cut_off_where_every_whole_line_is_left_and_nothing_is_torn(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[int, str, int]], last: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "audit.jsonl"
    whole: list[int] = []
    content = b""
    for number, (blocks, text, more) in enumerate(written):
        line = chained_lines(number + 1, text * (200 + more))[number]
        left = half(line, len(content), blocks)
        if len(LINE_START) < len(left) < len(line) - 80:
            content += left
        else:
            content += line
            whole.append(number)
    left = half(chained_lines(1, "x" * 2000)[0], len(content), last)
    content += left if len(left) > len(LINE_START) else b""
    path.write_bytes(content)
    repair_file(path)
    assert numbers(path) == (whole, [])
    size = path.stat().st_size
    repair_file(path)
    assert size == path.stat().st_size


@pytest.mark.parametrize("length", range(1, 20))
def test_a_half_of_a_few_bytes_is_one_too(tmp_path: Path, length: int) -> None:
    path = tmp_path / "audit.jsonl"
    whole = chained_lines(1)[0]
    for following in (b"", whole):
        path.write_bytes(long(2 * SMALLEST_BLOCK - length) + whole[:length] + following)
        repair_file(path)
        assert numbers(path) == ([0, 0] if following else [0], [])


def test_a_line_with_other_damage_is_left_for_an_investigation(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    first, second, third = chained_lines(3)
    damaged = second[:40] + b"\x00" + second[41:]
    other = b'garbage\n[1]\n{\n  "pretty": 1\n}\n{"timestamp":"of another program\n'
    content = first + damaged + other + third
    path.write_bytes(content)
    repair_file(path)
    assert path.read_bytes() == content


def test_a_line_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    first, second = long(2 * SMALLEST_BLOCK - 50), chained_lines(1)[0]
    path.write_bytes(first)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
    looked = os.pread

    def meanwhile(*arguments: int) -> bytes:
        # Another writer has written half a line between the two reads.
        if arguments[1] == 1:
            os.write(descriptor, second[:50])
        return looked(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "pread", meanwhile)
        repair_torn_lines(descriptor)
    os.close(descriptor)
    assert path.read_bytes() == first + second[:50]


def test_damage_far_before_the_end_is_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "WINDOW", 1000)
    path = tmp_path / "audit.jsonl"
    cut = long(900)[:SMALLEST_BLOCK]
    line = long(4 * SMALLEST_BLOCK - 1)
    path.write_bytes(cut + b"\n" + line + cut)
    repair_file(path)
    assert path.read_bytes() == cut + b"\n" + line + b" " * SMALLEST_BLOCK + b"\n"


def test_a_file_that_is_not_there_or_empty_is_none_to_mend(tmp_path: Path) -> None:
    repair_file(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.touch()
    repair_file(empty)
    assert empty.read_bytes() == b""
