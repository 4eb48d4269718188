"""The client of the process of the dry runs: one question at a time, each within a time limit."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from pexpolicy_console.dry_run.messages import (
    CheckFile,
    Explain,
    FileCheck,
    Found,
    ListRooms,
    ListRules,
    LookUp,
    Question,
    Rooms,
    Rules,
    Walk,
)

TIMEOUT_S = 30.0
"""For a question, the building of the configuration included."""
MAX_WAITING = 8
"""Questions that wait for another one; further ones are refused."""
IDLE_S = 300.0
"""Seconds without a question after which the process is ended."""
MAX_LINE = 1 << 25

T = TypeVar("T")


class DryRunFailed(Exception):
    """A question has no answer; ``failures`` has one line for each reason."""

    def __init__(self, failures: list[str]) -> None:
        super().__init__("\n".join(failures))
        self.failures = failures


class _Reply(msgspec.Struct):
    answer: msgspec.Raw = msgspec.Raw()
    failed: list[str] | None = None


class DryRuns:
    """Asks the configuration on the disk in a process of its own; an async context manager.

    The process starts with the first question. Plugins run in it, so one that hangs or ends its
    process holds up neither the console nor the server.
    """

    def __init__(self, config: Path, timeout: float = TIMEOUT_S) -> None:
        self._config = config
        self._timeout = timeout
        self._process: asyncio.subprocess.Process | None = None
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

    async def explain(self, question: Explain) -> Walk:
        """Answer one request; raise ``DryRunFailed``."""
        return await self._ask(question, Walk)

    async def look_up(self, question: LookUp) -> Found:
        """Ask each endpoint about one alias; raise ``DryRunFailed``."""
        return await self._ask(question, Found)

    async def rooms(self, question: ListRooms) -> Rooms:
        """Return rooms; raise ``DryRunFailed``."""
        return await self._ask(question, Rooms)

    async def rules(self, question: ListRules) -> Rules:
        """Return the rules; raise ``DryRunFailed``."""
        return await self._ask(question, Rules)

    async def check(self, question: CheckFile) -> FileCheck:
        """Check the configuration on the disk; raise ``DryRunFailed``."""
        return await self._ask(question, FileCheck)

    async def _ask(self, question: Question, kind: type[T]) -> T:
        if self._waiting >= MAX_WAITING:
            raise DryRunFailed([f"{MAX_WAITING} dry runs are waiting: try again in a moment"])
        self._waiting += 1
        try:
            async with self._lock:
                return await self._exchange(question, kind)
        finally:
            self._waiting -= 1

    async def _exchange(self, question: Question, kind: type[T]) -> T:
        if self._idle is not None:
            self._idle.cancel()
        try:
            async with asyncio.timeout(self._timeout):
                line = await self._send(msgspec.json.encode(question) + b"\n")
        except TimeoutError:
            await self._end()
            raise DryRunFailed([f"gave no answer within {self._timeout:.3g} s"]) from None
        except BaseException:
            # The answer to this question must not become that to the next one.
            await self._end()
            raise
        if not line.endswith(b"\n"):
            status = await self._end()
            raise DryRunFailed([f"the process of the dry runs ended, exit code {status}"])
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(IDLE_S, self._kill)
        reply = msgspec.json.decode(line, type=_Reply)
        if reply.failed is not None:
            raise DryRunFailed(reply.failed)
        return msgspec.json.decode(reply.answer, type=kind)

    async def _send(self, line: bytes) -> bytes:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "pexpolicy_console.dry_run.worker",
                str(self._config),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=MAX_LINE,
            )
        process: Any = self._process
        with contextlib.suppress(ConnectionError):
            process.stdin.write(line)
            await process.stdin.drain()
        try:
            answer: bytes = await process.stdout.readline()
        except ValueError:
            raise DryRunFailed(["the answer is too long to show"]) from None
        return answer

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _end(self) -> int | None:
        """End the process, and return its exit code; ``None`` if it does not run."""
        if self._idle is not None:
            self._idle.cancel()
        process, self._process = self._process, None
        if process is None:
            return None
        if process.returncode is None:
            # It may have ended by itself already, and its exit code is what explains that.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await process.wait()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        return await process.wait()
