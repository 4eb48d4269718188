"""Plugins written to a directory and run in isolated worker processes."""

import itertools
import os
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
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
from tests.support import processes

NUMBERS = itertools.count()
HEAD = """
import asyncio, ctypes, os, re, signal, sys, time
from contextlib import asynccontextmanager, suppress
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


def children() -> set[int]:
    """Return the unreaped workers of this process, including dead ones."""
    found = set()
    for pid in processes.children(os.getpid()):
        with suppress(*processes.GONE):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            # A dead worker has no command line; a server shared with other tests has another one.
            if not command or b"pexpolicy.isolation.worker_main" in command:
                found.add(pid)
    return found


def descriptors() -> int:
    """Return the number of open file descriptors."""
    return len(list(Path("/proc/self/fd").iterdir()))
