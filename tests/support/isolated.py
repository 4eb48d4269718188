"""Plugins that are written to a directory, built here and in workers of their own."""

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
from pexpolicy.models.decision import Decision
from pexpolicy.models.request import Request
from pexpolicy.plugins.discovery import PluginSource
from pexpolicy.plugins.isolation.isolated_plugin import IsolatedPlugin

NUMBERS = itertools.count()
HEAD = """
import asyncio, ctypes, os, re, signal, sys, time
from contextlib import asynccontextmanager
from pexpolicy import *
"""


@dataclass(frozen=True)
class Shelf:
    """Where plugins are written to, and found by import."""

    folder: Path

    def write(self, source: str) -> PluginSource:
        """A plugin whose module holds this source with a class ``Toy``."""
        module = f"toy_{os.getpid()}_{next(NUMBERS)}"
        (self.folder / f"{module}.py").write_text(HEAD + textwrap.dedent(source))
        entry = EntryPoint("toy", f"{module}:Toy", "pexpolicy")
        return PluginSource("toy", "toy-dist", "1.2", entry.value, entry.load)

    def hooks(self, source: str) -> PluginSource:
        """A plugin whose class holds these hooks, and nothing else."""
        return self.write("class Toy:\n    def __init__(self, settings): pass\n" + indented(source))

    def start(self, available: PluginSource, **table: Any) -> IsolatedPlugin:
        """Its workers, one unless told otherwise."""
        return IsolatedPlugin.start(available, table_of(**{"processes": 1, **table}), self.folder)

    @asynccontextmanager
    async def serving(self, source: str, **table: Any) -> AsyncIterator[IsolatedPlugin]:
        """A plugin of these hooks, in workers that answer."""
        isolated = self.start(self.hooks(source), **table)
        async with isolated.lifespan():
            yield isolated


def indented(source: str) -> str:
    return textwrap.indent(textwrap.dedent(source), "    ")


def table_of(**table: Any) -> PluginTable:
    return PluginTable.model_validate(table)


def request(endpoint: str, alias: str = "", *pairs: tuple[str, str], **params: str) -> Request:
    """A request with these parameters."""
    made: Request = ENDPOINTS[endpoint].parse(MultiDict([*pairs, *params.items()]), alias)
    return made


async def admitted(endpoint: str, ask: Callable[[Any], Any], asked: Request) -> Decision | None:
    """What a chain would make of the answer of a hook."""
    answer = await ask(asked)
    if answer is None:
        return None
    made = ENDPOINTS[endpoint].check_answer(answer, asked)
    return made if isinstance(made, Decision) else await made


async def service(isolated: IsolatedPlugin, do: str = "answer") -> Any:
    """Ask for a service; ``do`` tells the plugin what to do."""
    return await isolated.hooks["service_configuration"](request("service_configuration", do=do))


def alive(pid: int) -> bool:
    """False once a process has ended, waited for or not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def children() -> set[int]:
    """The workers that this process has started and not waited for, dead ones included."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        # A dead one has no command line; a server that other tests share has another.
        if int(fields[1]) == os.getpid() and (
            not command or b"pexpolicy.plugins.isolation.worker_main" in command
        ):
            found.add(int(stat.parent.name))
    return found


def descriptors() -> int:
    """How many are open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def gone(pids: list[int], limit: float = 3.0) -> bool:
    """True when these processes end within ``limit`` seconds."""
    deadline = time.monotonic() + limit
    while any(alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
