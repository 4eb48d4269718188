"""The short version of the experiment with a live page under load."""

from pathlib import Path

from lab.console_load.run import compare
from tests.support import programs


def test_a_live_page_shows_new_lines_and_tells_of_those_left_out(tmp_path: Path) -> None:
    programs.require("wrk")
    found = compare(tmp_path, 1, 3, 300)
    # Lines of one call are one row.
    assert found.rows > 0
    assert "lines left out" in found.left_out
    assert found.ratio("cpu").median > 0
    assert found.tasks
    assert all("nan" not in text for text in found.report())
