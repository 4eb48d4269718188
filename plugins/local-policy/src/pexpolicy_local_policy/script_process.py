"""The processes that run scripts, on the side of their user: limits, restarts, results."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Self

from pexpolicy.chain.hook_tasks import PluginBusyError
from pexpolicy.isolation.child import START_TIMEOUT_S, Child, ChildError, ChildPool
from pexpolicy_local_policy.worker import encoded

GRACE = 0.15
"""Seconds after which a process is killed that has not ended a late script by itself."""
COMMAND_SECONDS = 2.0
"""Limit for one run of a script by a command."""
MAX_WAITING = 1_000
"""Runs that wait for a process."""
PASSED = ("LD_LIBRARY_PATH", "TZDIR")
"""Variables of the environment that a process needs to start, and to find time zones."""


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


class _StaleError(Exception):
    """A process may hold a script that still runs, or what is left of one."""


class _ScriptChild(Child[dict[str, Any]]):
    """One process, without site packages of its own or an environment."""

    def __init__(self) -> None:
        super().__init__(
            "its process",
            "pexpolicy_local_policy.worker",
            decode=json.loads,
            encode=encoded,
            environment={name: os.environ[name] for name in PASSED if name in os.environ},
            flags=("-S", "-W", "ignore"),
        )

    async def ready(self) -> None:
        """Wait until it has run an empty script."""
        await super().ready()
        await self.run(Job("", {}), START_TIMEOUT_S)

    async def run(self, job: Job, seconds: float) -> Rendering:
        """Run a script; raises ``ChildError``."""
        result = await self.ask({**asdict(job), "seconds": seconds})
        failure = None if result["failure"] is None else Failure(**result["failure"])
        return Rendering(result["text"], tuple(result["debug"]), failure)


class ScriptPool:
    """Processes that share the scripts of a plugin or of a command.

    ``seconds`` is the limit of one script. A process that had to be killed is replaced at once.
    """

    def __init__(self, size: int, seconds: float) -> None:
        self._pool = ChildPool("scripts", size, _ScriptChild, MAX_WAITING)
        self._seconds = seconds
        self.runs = 0
        self.failures = 0

    @property
    def restarts(self) -> int:
        """The number of processes that were replaced."""
        return self._pool.restarts

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Start the processes, and end them afterwards."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._pool.open()
            yield self
        finally:
            await self._pool.close()

    async def run(self, job: Job, seconds: float | None = None) -> Rendering:
        """Run a script within ``seconds``, waiting included; a failure is part of the result."""
        limit = self._seconds if seconds is None else min(seconds, self._seconds)
        self.runs += 1
        clock = asyncio.get_running_loop().time
        late = clock() + limit
        rendering = Rendering(
            "", failure=Failure("time", f"no process was free within {limit:g} s")
        )
        try:
            async with asyncio.timeout(limit + GRACE), self._pool.borrow() as child:
                rendering = Rendering("", failure=Failure("time", "it ran too long"))
                rendering = await child.run(job, max(late - clock(), 0.001))
                if rendering.failure is not None and rendering.failure.kind in ("time", "memory"):
                    raise _StaleError  # noqa: TRY301 - the pool replaces what raises
        except (_StaleError, TimeoutError, PluginBusyError):
            pass
        except ChildError:
            failure = Failure("process", "its process ended unexpectedly")
            rendering = Rendering("", failure=failure)
        self.failures += rendering.failure is not None
        return rendering
