"""Drivers of sources, installed in a folder as a distribution would be."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

METADATA = "Metadata-Version: 2.1\nName: toy-drivers\nVersion: 1.0\n"
DRIVERS = '''
import asyncio
from pathlib import Path

from pexpolicy import ConfigPath, PluginSettings, Refreshed, metrics
from pexpolicy.files import track_file

LOG = Path({log!r})


def note(text):
    with LOG.open("a") as log:
        log.write(text + "\\n")


class Base:
    opened = False

    async def __aenter__(self):
        note(f"opened {{self}}")
        self.opened = True
        return self

    async def __aexit__(self, *_):
        note(f"closed {{self}}")
        self.opened = False


class People(Base):
    class Settings(PluginSettings):
        url: str
        fails: str = ""

    def __init__(self, settings):
        note(f"built {{settings.url}}")
        metrics.gauge("built", "Built.").set(1)
        self.url = settings.url
        self.fails = settings.fails
        if settings.fails == "built":
            raise OSError("no such server")

    async def __aenter__(self):
        if self.fails == "opened":
            raise OSError("no such server")
        return await super().__aenter__()

    def __str__(self):
        return self.url


class File(Base):
    class Settings(PluginSettings):
        path: ConfigPath

    def __init__(self, settings):
        track_file(settings.path)
        self.content = settings.path.read_text()

    def __str__(self):
        return self.content


class Breaks(Base):
    """A source whose task group fails."""

    async def __aenter__(self):
        self.tasks = asyncio.TaskGroup()
        await self.tasks.__aenter__()
        self.tasks.create_task(self.fail())

    async def fail(self):
        raise OSError("the connection is gone")

    async def __aexit__(self, *error):
        await self.tasks.__aexit__(*error)


class Snapshot(Base):
    """A source with refreshed data."""

    class Settings(PluginSettings):
        url: str
        every: float = 60.0

    def __init__(self, settings):
        self.url = settings.url
        self.data = Refreshed(self.fetch, every=settings.every, key=settings.url, name="people")

    async def fetch(self):
        note(f"fetched {{self.url}}")
        return self.url

    def __str__(self):
        return f"snapshot of {{self.url}}"


def no_class():
    raise AssertionError
'''
ENTRIES = """[pexpolicy.sources]
people = {module}:People
listed = {module}:File
breaks = {module}:Breaks
snapshot = {module}:Snapshot
function = {module}:no_class
missing = {module}:Missing
"""


def install(folder: Path, module: str = "toy_drivers") -> Path:
    """Install the drivers into a folder of the module path; return their log."""
    log = folder / "drivers.log"
    (folder / f"{module}.py").write_text(DRIVERS.format(log=str(log)))
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text(ENTRIES.format(module=module))
    log.touch()
    return log


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Install the drivers for one test; return what reads the lines of their log."""
    folder.mkdir()
    log = install(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "toy_drivers", raising=False)
    return lambda: log.read_text().splitlines()
