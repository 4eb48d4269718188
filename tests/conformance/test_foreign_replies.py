"""The readers of foreign replies agree with each other, and with the contract."""

import pytest

from lab.foreign_replies.readers import batch
from pexpolicy.conformance import disposition

SIZE = 4000


def test_three_readers_agree_with_the_contract() -> None:
    tally = batch(0, SIZE)
    assert tally.wrong == []
    meanings = "result continue reject redirect fallback dropped open"
    assert tally.counts["replies"].keys() == {*meanings.split()}


def test_a_reader_that_admits_a_refused_caller_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(disposition, "ACTIONS", {})
    assert batch(0, 500).wrong
