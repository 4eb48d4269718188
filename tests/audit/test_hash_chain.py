"""The hash chain: numbers without a gap, and hashes that link the lines."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.audit.hash_chain import HashChain
from pexpolicy.audit.reader import RawLine
from pexpolicy.audit.verify import Verification
from tests.audit.places import body, chained

OWN = ("instance", "boot_id", "prev", "after", "previous_file", "lost_count", "seq", "hash")
"""Keys that the chain writes."""
KEYS = st.text(max_size=9).filter(lambda key: key not in OWN)
VALUES = st.none() | st.integers() | st.text(max_size=9)


def found(lines: list[bytes]) -> list[str]:
    raws = [RawLine(Path("file"), n, line.removesuffix(b"\n")) for n, line in enumerate(lines, 1)]
    return [fault.text for fault in Verification().verify(raws)]


@given(
    st.lists(st.dictionaries(KEYS, VALUES, max_size=2), min_size=1, max_size=5),
    st.none() | st.text(min_size=1),
    st.sets(st.integers(0, 4)),
    st.sets(st.integers(0, 4)),
)
def test_what_is_sealed_verifies_whatever_stands_in_it(
    facts: list[dict[str, object]], instance: str | None, moved: set[int], lost: set[int]
) -> None:
    chain = HashChain(instance and instance.encode("utf-8", "replace").decode())
    lines = []
    for number, fact in enumerate(facts):
        line = {**fact, "timestamp": "t", "event": "decision"}
        if number in moved:
            chain.starts_file = True
        if number in lost:
            chain.lost = number + 1
        lines.append(chained(chain, json.dumps(line).encode()))
        event = json.loads(lines[-1])
        assert event["seq"] == number + 1
        assert ("prev" in event) == (number in moved and number > 0)
        assert event.get("lost_count") == (number + 1 if number in lost else None)
    assert found(lines) == []


def test_the_hash_is_what_the_page_says() -> None:
    chain = HashChain()
    first = chained(chain, body(1))
    second = chained(chain, body(2))
    text, _, digest = second.removesuffix(b'"}\n').rpartition(b',"hash":"')
    before = json.loads(first)["hash"].encode()
    assert hashlib.sha256(before + text).hexdigest().encode() == digest


def test_a_line_that_was_not_written_takes_no_number() -> None:
    chain = HashChain()
    chain.chain_lines(body(1))
    assert json.loads(chained(chain, body(2)))["seq"] == 1
    assert json.loads(chained(chain, body(3)))["seq"] == 2


@pytest.mark.parametrize("instance", ['a"b', "ä\\", "{}"])
def test_a_name_of_the_server_may_be_any_text(instance: str) -> None:
    chain = HashChain(instance)
    line = chained(chain, body(1))
    assert json.loads(line)["instance"] == instance
    assert found([line]) == []
