"""A package that was upgraded while its old code runs."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from pexpolicy import Conference, Plugin, PluginSettings
from pexpolicy.config.schema.plugins import PluginTable
from pexpolicy.plugins.binding import describe
from pexpolicy.plugins.discovery import PluginSource
from pexpolicy.plugins.plugin import build


class Settings(PluginSettings):
    room: str = "Room"


class Rooms(Plugin[Settings]):
    async def service_configuration(self, request: object) -> Conference:
        return Conference(name=self.settings.room, service_tag="room")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> PluginSource:
    monkeypatch.setitem(sys.modules, "acme_rooms_1", ModuleType("acme_rooms_1"))
    return PluginSource("rooms", "acme-rooms", "1.0", "acme_rooms_1:Rooms", lambda: Rooms)


def test_the_version_that_runs_is_shown_until_the_restart(
    installed: PluginSource, tmp_path: Path
) -> None:
    tables = {"rooms": PluginTable()}
    plugins, problems = build(tables, {"rooms": installed}, tmp_path)
    assert (problems, describe(plugins, tmp_path)[0].warnings) == ([], [])
    upgraded = replace(installed, version="2.0")
    plugins, problems = build(tables, {"rooms": upgraded}, tmp_path)
    assert plugins[0].available.origin == "acme-rooms 1.0"
    warnings = describe(plugins, tmp_path)[0].warnings
    text = "acme-rooms 2.0 is installed, and 1.0 runs: restart the server"
    assert [warning.text for warning in warnings] == [text]


def test_a_key_of_the_new_version_is_explained(installed: PluginSource, tmp_path: Path) -> None:
    build({"rooms": PluginTable()}, {"rooms": installed}, tmp_path)
    tables = {"rooms": PluginTable(settings={"colour": "red"})}
    _, problems = build(tables, {"rooms": replace(installed, version="2.0")}, tmp_path)
    unknown, version = map(str, problems)
    assert unknown.startswith("plugins.rooms.settings.colour: unknown key")
    assert version.endswith("acme-rooms 2.0 is installed, and 1.0 runs: restart the server")
