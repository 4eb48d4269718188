"""File and line of keys and aliases."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy import Alias
from pexpolicy_console.dry_run.places import line_of, place_of, places_of_alias

TEXT = """\
# [plugins.rooms]
[plugins.rooms.settings]
csv = "rooms.csv"
rooms."sip:a@example.com".name = "A"

[plugins.rooms.settings.rooms."b.c@example.com"]   # the second
name = "B"

[[plugins.rules.settings.rules]]
name = "one"
[[plugins.rules.settings.rules]]
name = "two"
[plugins.rules.settings.rules.then]
action = "reject"
"""
SETTINGS = ("plugins", "rooms", "settings")
RULES = ("plugins", "rules", "settings", "rules")


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ((*SETTINGS, "csv"), 3),
        ((*SETTINGS, "rooms", "sip:a@example.com"), 4),
        ((*SETTINGS, "rooms", "b.c@example.com"), 6),
        ((*SETTINGS, "rooms", "b.c@example.com", "name"), 7),
        ((*RULES, 0), 9),
        ((*RULES, 1), 11),
        ((*RULES, 1, "then", "action"), 14),
        (("sources", "x"), 0),
    ],
)
def test_a_key_is_found_on_its_line(key: tuple[str | int, ...], line: int) -> None:
    tomllib.loads(TEXT)
    assert line_of(TEXT, key) == line


names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8)


@given(st.lists(names, min_size=1, max_size=6, unique=True))
def test_each_table_is_found_whatever_its_name(found: list[str]) -> None:
    def quoted(name: str) -> str:
        return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'

    text = "".join(f"[a.{quoted(name)}]\nvalue = 1\n" for name in found)
    assert set(tomllib.loads(text)["a"]) == set(found)
    if len(text.splitlines()) == 2 * len(found):
        assert [line_of(text, ("a", name)) for name in found] == [*range(1, 2 * len(found), 2)]


def test_a_place_is_the_file_of_the_plugin_or_the_dotted_key() -> None:
    config = Path("/etc/config.toml")
    assert place_of(config, TEXT, "rooms", ("csv", "rooms.csv line 3")) == "rooms.csv line 3"
    key = ("rules", "r.toml line 9", "then", "result")
    assert place_of(config, TEXT, "rules", key) == "r.toml line 9"
    assert place_of(config, "", "rooms", ("rooms", "x")) == "plugins.rooms.settings.rooms.x"


def test_an_alias_is_found_in_each_spelling_and_by_its_domain(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(
        "alias;pin\n"
        "'sip:Bob@Example.com;x=1';1\n"
        "bobby@example.com;2\n"
        "@example.com;3\n"
        "# bob@example.com\n"
    )
    picture = tmp_path / "bob@example.com.jpg"
    picture.write_bytes(b"bob@example.com")
    found = places_of_alias(
        [table, picture, table, tmp_path / "none.csv"], Alias("bob@example.com")
    )
    assert found == ["t.csv line 2", "t.csv line 4"]
