"""The short version of the experiment with generated configurations."""

from pathlib import Path

from lab.replays.pairs import check
from lab.replays.speed import replay, write_audit


def test_a_replay_tells_exactly_which_answers_differ(tmp_path: Path) -> None:
    assert check(tmp_path, 1_000, 7) > 0


def test_one_process_and_two_say_the_same_and_skip_no_damaged_line(tmp_path: Path) -> None:
    audit, damaged = write_audit(tmp_path, 5_000)
    one, two = (replay(tmp_path, audit, processes).report for processes in (1, 2))
    assert one == two
    assert damaged == one["records"]["unreadable"] == 5
    assert sum(one["records"].values()) == 5_000
