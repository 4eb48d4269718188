"""The short version of the experiment with generated configurations."""

from pathlib import Path

from lab.replays.pairs import check


def test_a_replay_tells_exactly_which_answers_differ(tmp_path: Path) -> None:
    assert check(tmp_path, 1_000, 7) > 0
