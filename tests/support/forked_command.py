"""The command ``pexpolicy`` in a process that is forked from one with its modules imported.

Imports are more than half of the processor time of a server that a test starts.
"""

import multiprocessing
import os
import runpy
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

_AT_START = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_")
"""Beginnings of the variables that a process reads before it imports anything."""
_PATH = tuple(sys.path)
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["pexpolicy.cli.serve", "uvloop"])


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in environment.items() if name.startswith(_AT_START)}


_VARIABLES = _read_at_start(os.environ)


def is_possible(environment: Mapping[str, str]) -> bool:
    """Return whether a forked process behaves as one that is started with this environment."""
    return _read_at_start(environment) == _VARIABLES


class ForkedCommand:
    """A running command, with the part of the interface of ``Popen`` that a test needs."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path | None
    ) -> None:
        reader, writer = _CONTEXT.Pipe(duplex=False)
        given = (tuple(arguments), dict(environment), folder or Path.cwd(), writer)
        self._process = _CONTEXT.Process(target=_run, args=given)
        self._process.start()
        writer.close()
        self.stderr: IO[str] = os.fdopen(os.dup(reader.fileno()), encoding="utf-8")
        reader.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def end(self, within: float) -> None:
        """Ask it to end, and wait so many seconds; raises ``TimeoutError``."""
        self._process.terminate()
        self._process.join(within)
        if self._process.exitcode is None:
            raise TimeoutError("the server does not end")
        self._process.close()


def _run(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, stderr: Connection
) -> None:
    """Become the command that is started in this folder with this environment."""
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 1)
    os.dup2(stderr.fileno(), 2)
    stderr.close()
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    sys.path[:] = [str(folder), *_PATH]
    sys.argv = ["pexpolicy", *arguments]
    runpy.run_module("pexpolicy", run_name="__main__", alter_sys=True)
