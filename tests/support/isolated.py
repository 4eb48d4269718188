"""Plugins written to a directory and run in isolated worker processes."""

import itertools
import os
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from multidict import MultiDict

from pexpolicy.config.schema.plugins import PluginTable
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.isolation.isolated_plugin import IsolatedPlugin
from pexpolicy.models.decision import Decision
from pexpolicy.models.request import Request
from pexpolicy.plugins.discovery import PluginSource
from tests.support.waiting import HANG_S

NUMBERS = itertools.count()
HEAD = """
import asyncio, ctypes, os, re, signal, sys, time
from contextlib import asynccontextmanager
from pexpolicy import *
"""


@dataclass(frozen=True)
class PluginFolder:
    """Importable folder for plugin modules."""

    folder: Path

    def write(self, source: str) -> PluginSource:
        """Write a plugin whose module has this source, with a class ``Toy``."""
        module = f"toy_{os.getpid()}_{next(NUMBERS)}"
        (self.folder / f"{module}.py").write_text(HEAD + textwrap.dedent(source))
        entry = EntryPoint("toy", f"{module}:Toy", "pexpolicy")
        return PluginSource("toy", "toy-dist", "1.2", entry.value, entry.load)

    def hooks(self, source: str) -> PluginSource:
        """Write a plugin whose class has only these hooks."""
        return self.write("class Toy:\n    def __init__(self, settings): pass\n" + indented(source))

    def start(self, available: PluginSource, **table: Any) -> IsolatedPlugin:
        """Start the workers of a plugin, one by default."""
        return IsolatedPlugin(available, table_of(**{"processes": 1, **table}), self.folder)

    @asynccontextmanager
    async def serving(self, source: str, **table: Any) -> AsyncIterator[IsolatedPlugin]:
        """Run a plugin with these hooks in workers."""
        isolated = self.start(self.hooks(source), **table)
        async with isolated.lifespan():
            yield isolated


def indented(source: str) -> str:
    return textwrap.indent(textwrap.dedent(source), "    ")


def table_of(**table: Any) -> PluginTable:
    return PluginTable.model_validate(table)


def request(endpoint: str, alias: str = "", *pairs: tuple[str, str], **params: str) -> Request:
    """Return a request with these parameters."""
    made: Request = ENDPOINTS[endpoint].parse(MultiDict([*pairs, *params.items()]), alias)
    return made


async def admitted(endpoint: str, ask: Callable[[Any], Any], asked: Request) -> Decision | None:
    """Return the decision that a chain derives from the answer of a hook."""
    answer = await ask(asked)
    if answer is None:
        return None
    made = ENDPOINTS[endpoint].check_answer(answer, asked)
    return made if isinstance(made, Decision) else await made


async def service(isolated: IsolatedPlugin, do: str = "answer") -> Any:
    """Request a service; ``do`` selects the plugin's behaviour."""
    return await isolated.hooks["service_configuration"](request("service_configuration", do=do))


def alive(pid: int) -> bool:
    """Return false once a process has ended, reaped or not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def children() -> set[int]:
    """Return the unreaped workers of this process, including dead ones."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        # A dead worker has no command line; a server shared with other tests has another one.
        if int(fields[1]) == os.getpid() and (
            not command or b"pexpolicy.isolation.worker_main" in command
        ):
            found.add(int(stat.parent.name))
    return found


def descriptors() -> int:
    """Return the number of open file descriptors."""
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_until_gone(pids: list[int]) -> bool:
    """Return true as soon as these processes have ended."""
    deadline = time.monotonic() + HANG_S
    while any(alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
