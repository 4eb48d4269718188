"""The experiment on sources that fail, with short phases."""

from pathlib import Path

from tests.experiments.sources import failures


def test_a_frozen_and_killed_database(tmp_path: Path) -> None:
    assert failures.run(tmp_path, max_age=2.0, reloads=5, watched=2.0, names=("PostgreSQL",))
