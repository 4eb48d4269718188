"""A plugin of another team: a package of its own, installed into an environment of its own."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import clean_install, live_server, wire
from tests.support.paths import ROOT

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "acme-night-desk"
version = "3.2.1"
dependencies = ["pexpolicy"]

[project.entry-points.pexpolicy]
night_desk = "acme_night_desk:NightDesk"
broken_desk = "acme_night_desk.missing:Nothing"
"""
SOURCE = """
from pexpolicy import (
    Conference, Continue, PluginSettings, RegistrationAliasRequest, Reject,
    ServiceConfigurationRequest, hookimpl,
)


class NightDesk:
    class Settings(PluginSettings):
        room: str

    def __init__(self, settings: Settings) -> None:
        self._room = settings.room

    @hookimpl
    async def service_configuration(self, request: ServiceConfigurationRequest):
        if request.local_alias.user == "night":
            return Conference(name=self._room, service_tag="night", reason="it is late")

    @hookimpl
    def registration_alias(self, request: RegistrationAliasRequest):
        return Reject(reason="closed") if request.alias.user == "night" else None
"""
CONFIG = """
[audit]
path = "audit.jsonl"

[plugins.rooms]
priority = 20
[plugins.rooms.settings]
default_room = "Default - {local_alias}"

[plugins.domains]
priority = 30
[plugins.domains.settings]
allowed = ["example.com"]

[plugins.night_desk]
priority = 10
[plugins.night_desk.settings]
room = "Night Desk"
"""


@dataclass(frozen=True)
class Installed:
    """The environment that the plugin is installed in, and a configuration that names it."""

    environment: clean_install.Environment
    config: Path

    def run(self, *arguments: str) -> str:
        command = [self.environment.python, "-m", "pexpolicy", *arguments]
        return self.environment.run(command, self.config.parent)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("outside")
    package = folder / "source" / "acme_night_desk"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(SOURCE)
    (package.parent / "pyproject.toml").write_text(PYPROJECT)
    config = folder / "place" / "config.toml"
    config.parent.mkdir()
    config.write_text(CONFIG)
    environment = clean_install.create_environment(folder / "environment")
    environment.install(
        clean_install.build_wheel(environment, package.parent, folder / "plugin"),
        clean_install.build_wheel(environment, ROOT, folder / "core"),
    )
    return Installed(environment, config)


def test_the_core_that_is_asked_is_the_one_that_was_installed(installed: Installed) -> None:
    command = [installed.environment.python, "-c", "import pexpolicy; print(pexpolicy.__file__)"]
    place = installed.environment.run(command, installed.config.parent)
    assert place.startswith(str(installed.environment.folder))


def test_it_is_found_and_ordered_by_its_priority(installed: Installed) -> None:
    listed = json.loads(installed.run("plugins", "--json"))
    assert listed["order"]["service_configuration"] == ["night_desk", "rooms"]
    assert listed["order"]["registration_alias"] == ["night_desk", "domains"]
    rows = {row["name"]: row for row in listed["plugins"]}
    night = rows["night_desk"]
    assert (night["distribution"], night["version"]) == ("acme-night-desk", "3.2.1")
    assert night["state"] == "active"
    assert rows["broken_desk"]["state"] == "available"


def test_it_is_asked_before_the_others_and_they_after_it(installed: Installed) -> None:
    python, folder = installed.environment.python, installed.config.parent
    with live_server.running(installed.config, python=python, folder=folder) as server:
        night = server.ask(f"{wire.SERVICE}?local_alias=sip:night%40example.com")
        assert night.result == {
            "name": "Night Desk",
            "service_tag": "night",
            "service_type": "conference",
        }
        assert (night.json["decided_by"], night.json["reason"]) == ("night_desk", "it is late")
        day = server.ask(f"{wire.SERVICE}?local_alias=day")
        assert day.result["name"] == "Default - day"
        assert server.ask(f"{wire.REGISTRATION}night@example.com").action == "reject"
        assert server.ask(f"{wire.REGISTRATION}day@example.com").action == "continue"
        asked = [[(s["plugin"], s["outcome"]) for s in line["steps"]] for line in server.lines()]
    assert asked == [
        [("night_desk", "decided")],
        [("night_desk", "abstained"), ("rooms", "decided")],
        [("night_desk", "decided")],
        [("night_desk", "abstained"), ("domains", "decided")],
    ]


def test_one_that_cannot_be_imported_is_named_with_its_package(installed: Installed) -> None:
    config = installed.config.parent / "broken.toml"
    config.write_text("[plugins.broken_desk]\n")
    with pytest.raises(AssertionError, match=r"acme-night-desk 3\.2\.1") as error:
        installed.run("check", "--config", str(config))
    assert "plugins.broken_desk" in str(error.value)
    assert "ModuleNotFoundError" in str(error.value)
