"""The console's side of its child processes: dry runs, and jobs in the background."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from pexpolicy.isolation.child import Child, ChildError

TIMEOUT_S = 30.0
"""For a question, the building of the configuration included."""
MAX_WAITING = 8
"""Questions that wait for another one; further ones are refused."""
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
    """A process of ``worker``, which may send its progress before it answers."""

    def __init__(self, name: str, config: Path, *arguments: str) -> None:
        module, codec = "pexpolicy_console.worker", msgspec.json
        super().__init__(
            name, module, str(config), *arguments, decode=codec.decode, encode=codec.encode
        )
        self.progress = dict(PROGRESS)

    def on_message(self, message: dict[str, Any]) -> None:
        if "progress" in message:
            self.progress |= message["progress"]
        else:
            super().on_message(message)


@asynccontextmanager
async def _failures_told(name: str, seconds: float | None) -> AsyncIterator[None]:
    """Raise ``DryRunFailed`` for what keeps a process from answering."""
    try:
        yield
    except TimeoutError:
        raise DryRunFailed([f"{name} gave no answer within {seconds:.3g} s"]) from None
    except ChildError as error:
        raise DryRunFailed([str(error)]) from None
    except OSError as error:
        why = ": ".join(filter(None, (error.filename, error.strerror)))
        raise DryRunFailed([f"{name} could not be started: {why}"]) from None


class DryRuns:
    """Asks the configuration on the disk in a process of its own.

    The process starts with the first question, and ends where there are none. Plugins run in it,
    so one that hangs or ends its process holds up neither the console nor the server.
    """

    def __init__(self, config: Path, timeout: float = TIMEOUT_S) -> None:
        self._config = config
        self._timeout = timeout
        self._process: _Process | None = None
        self._lock = asyncio.Lock()
        self._waiting = 0
        self.fallback = ""
        """Of when the files of the last answer are, if they are not the present ones."""

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
            async with self._lock, _failures_told("the dry run", self._timeout):
                reply = await self._exchange({"question": question, **arguments})
        finally:
            self._waiting -= 1
        self.fallback = reply.get("fallback", "")
        return _answer_in(reply)

    async def _exchange(self, question: dict[str, Any]) -> dict[str, Any]:
        if self._process is not None and self._process.has_ended:
            await self.aclose()
        try:
            if self._process is None:
                self._process = _Process("the process of the dry runs", self._config)
                await self._process.attach()
            return await self._process.ask(question, self._timeout)
        except BaseException:
            # The answer to this question must not become that to the next one.
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """End the process."""
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
        self.progress: Mapping[str, Any] = PROGRESS
        """How far the job is that runs."""
        self.name_of_config = config.name
        """The configuration that is asked: its file, or the policy hash of a kept one."""
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

    def start(self, **arguments: Any) -> None:
        """Start a job, unless one runs."""
        if not self.is_running:
            self.started, self.last, self.problems = time.time(), None, []
            asked = arguments.get("kept") or arguments.get("file")
            self.name_of_config = asked or self._config.name
            self._task = asyncio.create_task(self._run(arguments))

    async def cancel(self) -> None:
        """End the job that runs, without a result."""
        if self.is_running:
            await self.aclose()
            self.problems = [f"the {self._name} was cancelled"]

    async def aclose(self) -> None:
        """End the job that runs."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, arguments: dict[str, Any]) -> None:
        name = f"the {self._name}"
        try:
            async with _failures_told(name, self._timeout):
                process = _Process(name, self._config, "--job")
                try:
                    await process.attach()
                    self.progress = process.progress
                    reply = await process.ask({"job": self._name, **arguments}, self._timeout)
                finally:
                    await process.end()
            self.last = _answer_in(reply)
        except DryRunFailed as error:
            self.problems = error.failures


def _answer_in(reply: Mapping[str, Any]) -> Any:
    """Return the answer in a reply; raise ``DryRunFailed`` where it has none."""
    if "failures" in reply:
        raise DryRunFailed(reply["failures"])
    return reply["answer"]
