"""The console's side of its child processes: dry runs, and jobs in the background."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
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

Json = dict[str, Any]
"""A JSON object, such as a question and its answer."""


class DryRunFailed(Exception):
    """A question has no answer; ``failures`` has one line for each reason."""

    def __init__(self, failures: list[str]) -> None:
        super().__init__("\n".join(failures))
        self.failures = failures


class _Process(Child[Json]):
    """A process of ``worker``, which may send its progress before it answers."""

    def __init__(self, name: str, config: Path, progress: Json) -> None:
        module, codec = "pexpolicy_console.worker", msgspec.json
        super().__init__(name, module, str(config), decode=codec.decode, encode=codec.encode)
        self._progress = progress

    def on_message(self, message: Json) -> None:
        if "progress" in message:
            self._progress |= message["progress"]
        else:
            super().on_message(message)


class DryRuns:
    """Asks the configuration on the disk in a process of its own.

    The process starts with the first question, and ends where there are none. Plugins run in it,
    so one that hangs or ends its process holds up neither the console nor the server.
    """

    def __init__(
        self, config: Path, timeout: float | None = TIMEOUT_S, name: str = "the dry run"
    ) -> None:
        self._config = config
        self._timeout = timeout
        self._name = name
        self._process: _Process | None = None
        self._lock = asyncio.Lock()
        self._waiting = 0
        self.progress = dict(PROGRESS)
        """How far the answer is."""
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
            async with self._lock:
                reply = await self._exchange({"question": question, **arguments})
        except TimeoutError:
            text = f"{self._name} gave no answer within {self._timeout:.3g} s"
            raise DryRunFailed([text]) from None
        except ChildError as error:
            raise DryRunFailed([str(error)]) from None
        except OSError as error:
            why = ": ".join(filter(None, (error.filename, error.strerror)))
            raise DryRunFailed([f"{self._name} could not be started: {why}"]) from None
        finally:
            self._waiting -= 1
        self.fallback = reply.get("fallback", "")
        if "failures" in reply:
            raise DryRunFailed(reply["failures"])
        return reply["answer"]

    async def _exchange(self, question: Json) -> Json:
        if self._process is not None and self._process.has_ended:
            await self.aclose()
        try:
            if self._process is None:
                self._process = _Process(self._name, self._config, self.progress)
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


class Job(DryRuns):
    """A job of ``worker`` in a process of its own, one at a time: a replay, or a verification."""

    def __init__(self, name: str, config: Path, timeout: float | None = None) -> None:
        super().__init__(config, timeout, f"the {name}")
        self._question = name
        self._task: asyncio.Task[None] | None = None
        self.name_of_config = config.name
        """The configuration that is asked: its file, or the policy hash of a kept one."""
        self.started: float | None = None
        """When the running or last job was started; ``None`` before the first."""
        self.last: Json | None = None
        """The last result; ``None`` while a job runs."""
        self.problems: list[str] = []
        """Why there is no result."""

    @property
    def is_running(self) -> bool:
        """Whether a job runs."""
        return self._task is not None and not self._task.done()

    def start(self, **arguments: Any) -> None:
        """Start a job, while none runs."""
        self.started, self.last, self.problems = time.time(), None, []
        self.name_of_config = arguments.get("kept") or arguments.get("file") or self._config.name
        self.progress |= PROGRESS
        self._task = asyncio.create_task(self._run(arguments))

    async def cancel(self) -> None:
        """End the job that runs, without a result."""
        if self._task is not None and self.is_running:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self.problems = [f"{self._name} was cancelled"]

    async def _run(self, arguments: Json) -> None:
        try:
            self.last = await self.ask(self._question, **arguments)
        except DryRunFailed as error:
            self.problems = error.failures
        finally:
            await self.aclose()
