"""Isolated plugins, and what the server process runs: refused, or opened by the plugin itself."""

import re
from pathlib import Path

import pytest

from pexpolicy.testing import ConfigError, decide, make_policy, make_request

HEAD = """
from contextlib import asynccontextmanager
from typing import Any
from pexpolicy import Conference, PluginSettings, Refreshed, Source, hookimpl, schedule


class Toy:
    def __init__(self, settings):
        self.settings = settings
"""
ABSTAINS = """
    @hookimpl
    async def service_configuration(self, request):
        return None
"""
REFRESHED = """
        self.data = Refreshed(self.fetch, every=1.0)

    async def fetch(self):
        return 1
"""
JOB = """
        schedule(self.tidy, every=1.0)

    async def tidy(self):
        pass
"""
ROUTES = """
    @hookimpl
    def routes(self):
        return []
"""
SOURCES = """
    class Settings(PluginSettings):
        one: Source[Any] | None = None
        several: list[Source[Any]] = []
"""
BACKGROUND = "isolation: uses Refreshed, schedule or shared state, which need isolation = .none."
OPENED = 'sources are for plugins of the server process: isolation = "none"'
OWN_DATA = """
    @hookimpl
    @asynccontextmanager
    async def lifespan(self):
        async with Refreshed(self.fetch, every=60.0) as self.data:
            yield

    async def fetch(self):
        return "Sales"

    @hookimpl
    async def service_configuration(self, request):
        return Conference(name=self.data.value, service_tag="x")
"""


def configured(folder: Path, source: str, settings: str = "") -> Path:
    (folder / "plugins").mkdir()
    (folder / "plugins" / "toy.py").write_text(HEAD + source)
    (folder / "people.csv").write_text("alias\nanna\n")
    path = folder / "config.toml"
    path.write_text(
        'plugin_dirs = ["plugins"]\n[sources.people]\ndriver = "file"\npath = "people.csv"\n'
        f'[plugins.toy]\nisolation = "process"\n[plugins.toy.settings]\n{settings}'
    )
    return path


@pytest.mark.parametrize(
    ("source", "settings", "texts"),
    [
        (REFRESHED, "", [BACKGROUND]),
        (JOB, "", [BACKGROUND]),
        (ROUTES, "", ["its routes need isolation = .none.: the listener is in the server process"]),
        (
            SOURCES,
            'one = "people"\nseveral = ["people"]',
            [rf"settings\.one: {OPENED}", rf"settings\.several\[0\]: {OPENED}"],
        ),
    ],
    ids=["refreshed", "job", "routes", "sources"],
)
def test_what_the_server_runs_or_opens_is_refused(
    tmp_path: Path, source: str, settings: str, texts: list[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        make_policy(configured(tmp_path, source + ABSTAINS, settings))
    for text in texts:
        assert re.search(text, str(refused.value)), refused.value


async def test_data_that_the_plugin_opens_itself_is_there(tmp_path: Path) -> None:
    policy = make_policy(configured(tmp_path, OWN_DATA))
    async with policy.serving():
        outcome = await decide(policy, make_request("service_configuration", local_alias="x"))
    assert outcome.decided_by == "toy", [str(step) for step in outcome.steps]
