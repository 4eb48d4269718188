"""The console's side of its child processes: dry runs, and jobs in the background."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from pexpolicy.child import Child, ChildError

TIMEOUT_S = 30.0
"""For a question, the building of the configuration included."""
MAX_WAITING = 8
"""Questions that wait for another one; further ones are refused."""
IDLE_S = 300.0
"""Seconds without a question after which the process is ended."""
JOB_TIMEOUT_S = 900.0
"""After which a replay is ended."""

PROGRESS: Mapping[str, Any] = {"records": 0, "share": 0.0, "changed": 0}
"""Of a replay: the share of the files, and the calls with another answer."""


class DryRunFailed(Exception):
    """A question has no answer; ``failures`` has one line for each reason."""

    def __init__(self, failures: list[str]) -> None:
        super().__init__("\n".join(failures))
        self.failures = failures


class _Process(Child[dict[str, Any]]):
    """A process of ``worker``, which may tell its progress before it answers."""

    def __init__(self, name: str, config: Path, *arguments: str) -> None:
        codec = msgspec.json
        module = "pexpolicy_console.worker"
        super().__init__(
            name, module, str(config), *arguments, decode=codec.decode, encode=codec.encode
        )
        self.progress: Mapping[str, Any] = PROGRESS

    def on_message(self, message: dict[str, Any]) -> None:
        self.progress = message.get("progress", self.progress)
        if "progress" not in message:
            super().on_message(message)

    async def result(self, question: dict[str, Any], seconds: float | None) -> Any:
        """Return the answer to a question; raise ``DryRunFailed``, and what ``ask`` raises."""
        reply = await self.ask(question, seconds)
        if "failures" in reply:
            raise DryRunFailed(reply["failures"])
        return reply["answer"]


class DryRuns:
    """Asks the configuration on the disk in a process of its own; an async context manager.

    The process starts with the first question. Plugins run in it, so one that hangs or ends its
    process holds up neither the console nor the server.
    """

    def __init__(self, config: Path, timeout: float = TIMEOUT_S) -> None:
        self._config = config
        self._timeout = timeout
        self._process: _Process | None = None
        self._lock = asyncio.Lock()
        self._waiting = 0
        self._idle: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._end()

    @property
    def pid(self) -> int | None:
        """The process; ``None`` while there is none."""
        return None if self._process is None else self._process.pid

    async def ask(self, question: str, **arguments: Any) -> Any:
        """Return the answer of ``worker`` to a question; raise ``DryRunFailed``."""
        if self._waiting >= MAX_WAITING:
            raise DryRunFailed([f"{MAX_WAITING} dry runs are waiting: try again in a moment"])
        self._waiting += 1
        try:
            async with self._lock:
                return await self._exchange({"question": question, **arguments})
        finally:
            self._waiting -= 1

    async def _exchange(self, question: dict[str, Any]) -> Any:
        if self._idle is not None:
            self._idle.cancel()
        if self._process is not None and self._process.has_ended:
            await self._end()
        try:
            if self._process is None:
                self._process = _Process("the process of the dry runs", self._config)
                await self._process.attach()
            return await self._process.result(question, self._timeout)
        except DryRunFailed:
            raise
        except TimeoutError:
            failure = f"gave no answer within {self._timeout:.3g} s"
        except (ChildError, OSError) as error:
            failure = str(error)
        except BaseException:
            # The answer to this question must not become that to the next one.
            await self._end()
            raise
        finally:
            if (process := self._process) is not None:
                self._idle = asyncio.get_running_loop().call_later(IDLE_S, process.kill)
        await self._end()
        raise DryRunFailed([failure])

    async def _end(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        process, self._process = self._process, None
        if process is not None:
            await process.end()


class Job:
    """A job of ``worker`` in a process of its own, one at a time: a replay, or a verification."""

    def __init__(self, name: str, config: Path, timeout: float | None = None) -> None:
        self._name = name
        self._config = config
        self._timeout = timeout
        self._task: asyncio.Task[None] | None = None
        self._process: _Process | None = None
        self.file = config
        """The configuration that is asked."""
        self.started: float | None = None
        """When the running or last job was started; ``None`` before the first."""
        self.last: dict[str, Any] | None = None
        """The last result; ``None`` while a job runs."""
        self.problems: list[str] = []
        """Why there is no result."""

    @property
    def is_running(self) -> bool:
        """Whether a job runs."""
        return self._task is not None and not self._task.done()

    @property
    def progress(self) -> Mapping[str, Any]:
        """How far the job is that runs."""
        return PROGRESS if self._process is None else self._process.progress

    def start(self, **arguments: Any) -> None:
        """Start a job, unless one runs."""
        if not self.is_running:
            self.started, self.last, self.problems = time.time(), None, []
            self.file = self._config.with_name(arguments.get("file", self._config.name))
            self._task = asyncio.create_task(self._run(arguments))

    async def cancel(self) -> None:
        """End the job that runs, without a result."""
        if self.is_running:
            await self.close()
            self.problems = [f"the {self._name} was cancelled"]

    async def close(self) -> None:
        """End the job that runs."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, arguments: dict[str, Any]) -> None:
        try:
            self._process = _Process(f"the {self._name}", self._config, "--job")
            await self._process.attach()
            question = {"job": self._name, **arguments}
            self.last = await self._process.result(question, self._timeout)
        except DryRunFailed as error:
            self.problems = error.failures
        except TimeoutError:
            self.problems = [f"the {self._name} took longer than {self._timeout:.3g} s"]
        except ChildError as error:
            self.problems = [str(error)]
        except OSError as error:
            self.problems = [f"the {self._name} could not be started: {error.strerror}"]
        finally:
            process, self._process = self._process, None
            if process is not None:
                await process.end()
