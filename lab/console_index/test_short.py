"""The short version of the experiments with the index of the console."""

from pathlib import Path

import pytest

from lab.console_index import figures, kills, scale


def test_an_index_is_small_and_finds_the_lines_of_an_alias(tmp_path: Path) -> None:
    measured = scale.measure(tmp_path, 20_000)
    assert measured.share < 0.4
    found = {name: count for name, (count, _) in measured.searches.items()}
    assert found["a room that is called often"] == scale.PAGE
    assert found["an alias that never called"] == 0
    assert found[scale.FIRST] == found["a caller"]
    assert found["counts of all lines"] == 20_000
    assert found["counts of the first hour"] == 20_000
    assert found["refused by a rule"] == scale.PAGE


def test_an_index_that_was_killed_is_the_same_as_without_kills(tmp_path: Path) -> None:
    assert "the same index" in kills.run(tmp_path, 5, 10_000)


@pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")
def test_each_figure_on_each_page_is_that_of_a_count_of_the_lines() -> None:
    (report,) = figures.run(1, seed=3)
    assert report == "1 audits: 41 of 41 pages have the figures of a count of the lines"
