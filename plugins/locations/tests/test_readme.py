"""What the README shows of the CSV file, tried."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pexpolicy.config.csv_tables import parse_table, write_table
from pexpolicy_locations.table import Entry

README = Path(__file__).parents[1] / "README.md"


def shown() -> str:
    blocks: list[str] = re.findall(r"```text\n(.*?)```", README.read_text(), re.DOTALL)
    return next(text for text in blocks if text.startswith("subnet;"))


def test_the_file_that_is_shown_is_read(build: Callable[..., Any]) -> None:
    locations = build({}, csv=shown())
    assert locations.warnings() == []
    assert locations.ask("10.1.0.1").result == {
        "location": "Oslo",
        "overflow_locations": ["Bergen", "Frankfurt"],
    }
    assert locations.ask("10.1.0.1", protocol="h323").location == "Oslo legacy"
    assert locations.ask("2001:db8:1::1").location == "Oslo"


def test_the_columns_that_are_shown_are_those_that_there_are() -> None:
    assert shown().splitlines()[0].split(";") == list(Entry.model_fields)


def test_the_entries_of_the_file_can_be_written_again() -> None:
    entries = [row.values for row in parse_table(shown(), Entry, "subnets.csv")]
    again = parse_table(write_table(entries, Entry), Entry, "subnets.csv")
    assert [row.values for row in again] == entries
