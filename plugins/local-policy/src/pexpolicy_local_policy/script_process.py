"""The processes that run scripts, on the side of their user: limits, restarts, results."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

MAX_LINE = 16 * 1024 * 1024
"""Bytes of one result; more than any script may print."""
GRACE = 0.15
"""Seconds after which a process is killed that has not ended a late script by itself."""
START_SECONDS = 10.0
"""Time for a process to start."""
RETRY_SECONDS = 1.0
"""Pause before another attempt to start a process."""
PASSED = ("LD_LIBRARY_PATH", "TZDIR")
"""Variables of the environment that a process needs to start, and to find time zones."""
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[1:]; from pexpolicy_local_policy.worker import main; main()"
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a script gave no text: ``kind`` is time, memory, output, recursion, syntax, refused,
    undefined, unknown, error, not applied, or process; ``line`` is that of the script, if known.
    """

    kind: str
    text: str
    line: int | None = None

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


@dataclass(frozen=True, slots=True)
class Rendering:
    """What a script printed and logged, until the failure where there is one."""

    text: str
    debug: tuple[str, ...] = ()
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A script and its variables; ``now`` is the time of ``pex_now`` in seconds since 1970."""

    source: str
    variables: Mapping[str, Any]
    now: float | None = None
    unknown: tuple[str, ...] = ()
    """Variables that are not known; a script that reads one fails with the kind ``unknown``."""


class ScriptProcess:
    """One process; it runs one script at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> Self:
        """Start the process: without site packages of its own, environment or shell."""
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-W", "ignore", "-c", _PROGRAM),
                *filter(None, sys.path),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={name: os.environ[name] for name in PASSED if name in os.environ},
                limit=MAX_LINE,
                start_new_session=True,
            )
        )

    @property
    def pid(self) -> int:
        """Return the process ID."""
        return self._process.pid

    async def run(self, job: Job, seconds: float) -> Rendering:
        """Run a script; after a failure of the kind ``process`` this process cannot be used again.

        When it is cancelled, the process cannot be used again either.
        """
        message = {
            "source": job.source,
            "variables": job.variables,
            "seconds": seconds,
            "now": job.now,
            "unknown": job.unknown,
        }
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            async with asyncio.timeout(seconds + GRACE):
                stdin.write(json.dumps(message).encode() + b"\n")
                await stdin.drain()
                line = await stdout.readline()
        except TimeoutError:
            return Rendering("", failure=Failure("time", "it ran too long"))
        except (ConnectionError, ValueError):
            line = b""
        if not line:
            return Rendering("", failure=Failure("process", "its process ended unexpectedly"))
        result = json.loads(line)
        failure = None if result["failure"] is None else Failure(**result["failure"])
        return Rendering(result["text"], tuple(result["debug"]), failure)

    async def end(self) -> None:
        """Kill the process and wait until it is gone."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class ScriptPool:
    """Processes that share the scripts of a plugin or of a command.

    ``seconds`` is the limit of one script. A process that had to be killed is replaced at once.
    """

    def __init__(self, size: int, seconds: float) -> None:
        self._size = size
        self._seconds = seconds
        self._idle: asyncio.LifoQueue[ScriptProcess] = asyncio.LifoQueue()
        self._all: set[ScriptProcess] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closing = False
        self.runs = 0
        self.failures = 0
        self.restarts = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Start the processes, and end them afterwards."""
        try:
            adding = (self._add() for _ in range(self._size))
            # Each is awaited: one that starts after another has failed is ended too.
            for error in await asyncio.gather(*adding, return_exceptions=True):
                if error is not None:
                    raise error
            yield self
        finally:
            self._is_closing = True
            await asyncio.gather(*self._tasks)
            await asyncio.gather(*(process.end() for process in self._all))

    async def run(self, job: Job, seconds: float | None = None) -> Rendering:
        """Run a script within ``seconds``, waiting included; a failure is part of the result."""
        limit = self._seconds if seconds is None else min(seconds, self._seconds)
        began = asyncio.get_running_loop().time()
        self.runs += 1
        try:
            async with asyncio.timeout(limit):
                process = await self._idle.get()
        except TimeoutError:
            self.failures += 1
            text = f"no process was free within {limit:g} s"
            return Rendering("", failure=Failure("time", text))
        left = max(limit - (asyncio.get_running_loop().time() - began), 0.001)
        usable = False
        try:
            rendering = await process.run(job, left)
            usable = not _needs_restart(rendering.failure)
        finally:
            if usable:
                self._idle.put_nowait(process)
            else:
                self._replace(process)
        self.failures += rendering.failure is not None
        return rendering

    async def _add(self) -> None:
        """Start a process and wait until it is ready; raises ``RuntimeError``."""
        process = await ScriptProcess.start()
        self._all.add(process)
        ready = await process.run(Job("", {}), START_SECONDS)
        if ready.failure is not None:
            self._all.discard(process)
            await process.end()
            raise RuntimeError(f"a process for scripts does not start: {ready.failure}")
        self._idle.put_nowait(process)

    def _replace(self, process: ScriptProcess) -> None:
        self.restarts += 1
        self._all.discard(process)
        task = asyncio.get_running_loop().create_task(self._end_and_add(process))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end_and_add(self, process: ScriptProcess) -> None:
        await process.end()
        while not self._is_closing:
            with suppress(OSError, RuntimeError):
                await self._add()
                return
            await asyncio.sleep(RETRY_SECONDS)


def _needs_restart(failure: Failure | None) -> bool:
    """Return whether a process may hold a script that still runs, or what is left of one."""
    return failure is not None and failure.kind in ("time", "memory", "process")
