"""Rooms as CSV, read back by the plugin."""

from pathlib import Path
from typing import Any

import pytest
import tomlkit
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pexpolicy_importers.command import export
from pexpolicy_rooms.plugin import Rooms
from pexpolicy_rooms.settings import Settings

TABLES = """
[plugins.rooms.settings]
zone = "Europe/Oslo"
files = ["more.toml"]

[plugins.rooms.settings.rooms."sip:Clinic@Example.com"]
name = "Clinic"
pin = "0482"
participant_limit = 30
allow_guests = true
aliases = ["2301"]
valid_until = 2030-12-24

[plugins.rooms.settings.rooms."clinic-2"]
name = "Clinic"
pin = "0482"
participant_limit = 30
allow_guests = true
valid_until = 2030-12-24
"""
MORE = """
[[rooms]]
aliases = ["weekly@example.com"]
name = "=Weekly, with; signs"
automatic_participants = [
    { local_alias = "a", remote_alias = "b", protocol = "sip", role = "guest" },
]
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(export, ["rooms", *arguments], catch_exceptions=False)


def table_of(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the services of all aliases, each with its time."""
    context = {"root": folder}
    plugin = Rooms(Settings.model_validate(settings, context=context))
    return {
        alias: (room.service.set_fields(), room.validity) for alias, room in plugin._table.entries()
    }


def test_the_rooms_of_a_configuration_are_read_back(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(TABLES)
    (tmp_path / "more.toml").write_text(MORE)
    result = run(str(config))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("sip:Clinic@Example.com 2301,Clinic,")
    (tmp_path / "rooms.csv").write_text(result.stdout)
    written = tomlkit.parse(TABLES).unwrap()["plugins"]["rooms"]["settings"]
    read = table_of({"csv": str(tmp_path / "rooms.csv"), "zone": "Europe/Oslo"}, tmp_path)
    paths = {**written, "files": [str(tmp_path / "more.toml")]}
    assert read == table_of(paths, tmp_path)
    alone = run(str(tmp_path / "more.toml"))
    assert alone.stdout.startswith("aliases,name,automatic_participants\n")


@pytest.mark.parametrize(
    ("room", "says"),
    [
        ('name = "A"\npin = { derive = "sha256", secret_file = "k" }', "a.pin: is calculated"),
        ('name = "A"\naliases = ["b c"]', "rooms.a.aliases: holds a blank"),
        ("pin = '1234'", "rooms.a.name: is missing"),
        ('name = "A"\ndescription = ""', "it would be read back differently"),
        ('name = "A"\npin = "1234"\ndescription = " b"', "rooms.a.description: has blanks"),
        ("", "rooms.a.name: is missing"),
    ],
)
def test_what_a_csv_file_cannot_hold_is_refused(tmp_path: Path, room: str, says: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"[plugins.rooms.settings.rooms.a]\n{room}\n")
    result = run(str(config))
    assert (result.exit_code, result.stdout) == (65, "")
    assert says in result.stderr
    assert "1234" not in result.stderr


def test_what_is_not_in_the_file_is_said(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    settings = 'source = "db"\nquery = "SELECT 1"\npins = "pins.csv"\nrooms.a.name = "A"\n'
    config.write_text(f"[plugins.rooms.settings]\n{settings}")
    result = run(str(config))
    assert result.stdout == "aliases,name\na,A\n"
    assert "the rooms of the source db are not among these" in result.stderr
    assert "the PINs in pins.csv are not among these" in result.stderr
    config.write_text("[plugins.rules]\n")
    assert "has no rooms" in run(str(config)).stderr


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
FIELDS = st.fixed_dictionaries(
    {"name": TEXT.filter(bool)},
    optional={
        "pin": st.from_regex(r"\A[0-9]{4,8}\Z"),
        "allow_guests": st.booleans(),
        "participant_limit": st.integers(0, 999),
        "description": TEXT,
        "service_tag": TEXT,
        "valid_until": st.dates() | st.just("2030-01-01T10:00:00Z"),
        "automatic_participants": st.lists(
            st.fixed_dictionaries(
                {
                    "local_alias": TEXT,
                    "remote_alias": TEXT,
                    "protocol": st.just("sip"),
                    "role": st.just("guest"),
                }
            ),
            max_size=2,
        ),
    },
)


@settings(suppress_health_check=[*HealthCheck])
@given(st.dictionaries(st.from_regex(r"\A[a-z]{1,4}(@b\.example)?\Z"), FIELDS, max_size=4))
def test_any_rooms_are_read_back_or_refused(tmp_path: Path, rooms: dict[str, Any]) -> None:
    assume(rooms)
    tables = {"zone": "Europe/Oslo", "rooms": rooms}
    config = tmp_path / "config.toml"
    config.write_bytes(tomlkit.dumps({"plugins": {"rooms": {"settings": tables}}}).encode())
    try:
        expected = table_of(tables, tmp_path)
    except ValueError:
        return  # the plugin refuses these
    result = run(str(config))
    if result.exit_code:
        blank = any(
            text != text.strip() or not text or {"\0", "\r"} & {*text} or text.startswith("#")
            for fields in rooms.values()
            for text in fields.values()
            if isinstance(text, str)
        )
        assert blank, result.stderr
        return
    file = tmp_path / "rooms.csv"
    file.write_bytes(result.stdout_bytes)
    assert table_of({"zone": "Europe/Oslo", "csv": str(file)}, tmp_path) == expected
