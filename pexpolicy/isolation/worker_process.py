"""Worker process on the server's side: the process of one plugin, and the socket to it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import cast

from pexpolicy.config.problems import PluginBuildError, Problem
from pexpolicy.isolation.frames import FrameDecoder, framed
from pexpolicy.isolation.messages import (
    BuildFailed,
    HookFailed,
    Message,
    MetricsUpdate,
    OkReply,
    Report,
    StartRequest,
    WorkerError,
    report,
)
from pexpolicy.isolation.process_limits import MIB, PAGE, ProcessLimits, UsageMeter

_SIGNALS = frozenset(signal.Signals)
WORKER_EXIT_TIMEOUT_S = 1.0
"""Time for a worker to exit after SIGTERM."""


class WorkerProcess(asyncio.Protocol):
    """A process with one plugin; it answers one call at a time.

    ``calls`` counts its calls, ``idle_failures`` the workers before it that ended without one.
    ``on_loss`` is called when it ends between calls, ``on_metrics`` with its metrics.
    """

    def __init__(self, name: str, limits: ProcessLimits, idle_failures: int = 0) -> None:
        self.name = name
        self._limits = limits
        self.calls = 0
        self.idle_failures = idle_failures
        self.lost = False
        self.on_loss: Callable[[WorkerProcess], None] | None = None
        self.on_metrics: Callable[[MetricsUpdate], None] = lambda _: None
        self._frames = FrameDecoder()
        self._answer: asyncio.Future[Report] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._memory: int | None = None
        self._socket, theirs = socket.socketpair()
        # Nothing is written to this pipe: it closes when this process ends.
        read_end, self._parent_alive_pipe = os.pipe()
        try:
            self._started = _start(theirs.fileno(), read_end, limits.environment)
        except BaseException:
            self._socket.close()
            os.close(self._parent_alive_pipe)
            raise
        finally:
            theirs.close()
            os.close(read_end)
        with suppress(OSError):
            self._memory = os.open(f"/proc/{self._started.pid}/statm", os.O_RDONLY)
        self._meter = UsageMeter(self._started.pid)
        self._is_open = False

    @property
    def pid(self) -> int:
        """Return the process ID."""
        return self._started.pid

    def post(self, message: Message, deadline: float) -> None:
        """Send a message before there is an event loop; see ``await_report`` for the reply."""
        with suppress(ConnectionError):
            self._within(deadline).sendall(framed(message))

    def await_report(self, deadline: float) -> Report:
        """Return the first report before there is an event loop; raises ``WorkerError``."""
        try:
            while piece := self._within(deadline).recv(65536):
                for frame in self._frames.feed(piece):
                    return report(frame)
        except TimeoutError:
            msg = f"the worker process of {self.name} was not ready in time"
            raise WorkerError(msg) from None
        except ConnectionError:
            pass
        deadline = time.monotonic() + WORKER_EXIT_TIMEOUT_S
        while not self._has_ended() and time.monotonic() < deadline:
            time.sleep(0.001)
        raise WorkerError(self.exit_reason)

    def _within(self, deadline: float) -> socket.socket:
        self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
        return self._socket

    async def adopt(self) -> None:
        """Attach the socket to the running event loop."""
        loop = asyncio.get_running_loop()
        self._socket.setblocking(False)  # noqa: FBT003 - its own signature
        await loop.create_unix_connection(lambda: self, sock=self._socket)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Complete the pending call; a worker that sends anything else is ended."""
        try:
            for frame in self._frames.feed(data):
                message = report(frame)
                if isinstance(message, MetricsUpdate):
                    self.on_metrics(message)
                    continue
                if self._answer is None or self._answer.done():
                    msg = f"the worker of {self.name} sent a message without a request"
                    raise WorkerError(msg)  # noqa: TRY301 - one place handles all of them
                self._answer.set_result(message)
        except WorkerError as fault:
            self.fail(fault)
            assert self._transport is not None
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the pending call, or report the loss of an idle worker."""
        self.lost = True
        if self._answer is not None:
            self.fail(ConnectionResetError())
        elif self.on_loss is not None:
            self.on_loss(self)

    def fail(self, error: Exception) -> None:
        """Fail the pending call."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    async def call(self, message: Message) -> Report:
        """Return the worker's reply; raises ``WorkerError`` when it ends instead.

        After any exception the worker cannot be used again.
        """
        frame = framed(message)
        answer: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self._answer = answer
        try:
            if self.lost or self._transport is None:
                answer.set_exception(ConnectionResetError())
            else:
                self._transport.write(frame)
            return await answer
        except ConnectionResetError:
            if not await self._ended(WORKER_EXIT_TIMEOUT_S):
                self.kill()
                await self._ended(WORKER_EXIT_TIMEOUT_S)
            raise WorkerError(self.exit_reason) from None
        finally:
            self._answer = None

    async def open(self) -> None:
        """Enter the plugin's lifespan; raises ``WorkerError``.

        Raises ``PluginBuildError`` where that can never succeed.
        """
        reply = await self.call(StartRequest())
        if isinstance(reply, BuildFailed):
            raise PluginBuildError(Problem(tuple(key), text) for key, text in reply.problems)
        if isinstance(reply, HookFailed):
            raise WorkerError(reply.summary, reply.lines)
        if not isinstance(reply, OkReply):
            msg = f"the worker of {self.name} sent a reply of another type"
            raise WorkerError(msg)
        self._is_open = True

    @property
    def memory(self) -> int:
        """Return the resident memory in bytes; 0 if the system does not report it."""
        if self._memory is None:
            return 0
        try:
            return int(os.pread(self._memory, 100, 0).split()[1]) * PAGE
        except (OSError, IndexError):
            return 0

    def memory_excess(self) -> str:
        """Return by how much the worker alone exceeds its memory; empty if it does not."""
        used, limit = self.memory, self._limits.memory
        if used <= limit:
            return ""
        return self._say(f"used {used // MIB} MiB of memory, and its memory_mb is {limit // MIB}")

    def excess(self, now: float) -> str:
        """Return which limit the worker and its children exceed; empty if they do not."""
        if text := self.memory_excess():
            return text
        return (
            self._say(text)
            if (text := self._meter.excess(self._limits, now, is_open=self._is_open))
            else ""
        )

    def _say(self, text: str) -> str:
        return f"the worker process of {self.name} {text}"

    @property
    def exit_reason(self) -> str:
        """Return a sentence on how the process ended."""
        code = self._started.returncode
        if code is None:
            return f"the worker process of {self.name} does not answer"
        if code < 0:
            hint = self._limits.exit_hint(-code)
            # Not all real-time signals have a name.
            name = signal.Signals(-code).name if -code in _SIGNALS else f"signal {-code}"
            return f"the worker process of {self.name} ended with {name}{hint}"
        return f"the worker process of {self.name} ended with exit code {code}"

    def _has_ended(self) -> bool:
        """Return whether the process has ended and was reaped; its children are killed then."""
        started = self._started
        if started.returncode is None and _is_over(started):
            self.kill()
            started.wait()
        return started.returncode is not None

    def kill(self) -> None:
        """Kill the process and its children."""
        # Until it is reaped, no other process can have its ID.
        if self._started.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._started.pid, signal.SIGKILL)

    async def _ended(self, limit: float) -> bool:
        """Wait for the end of the process; false if it has not ended after ``limit`` seconds."""
        deadline = time.monotonic() + limit
        pause = 0.001
        while not self._has_ended():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.05)
        return True

    async def end(self, grace: float = WORKER_EXIT_TIMEOUT_S) -> None:
        """End the process: SIGTERM, ``grace`` seconds, SIGKILL; wait until it is gone."""
        try:
            if grace and not self._has_ended():
                self._started.terminate()
                await self._ended(grace)
        finally:
            self.kill()
            self.close()
        while not await self._ended(WORKER_EXIT_TIMEOUT_S):
            self.kill()

    def close(self) -> None:
        """Close the socket and the pipe."""
        self.on_loss = None
        if self._transport is not None:
            # Its loop may already be closed when the program ends.
            with suppress(RuntimeError):
                self._transport.abort()
        self._socket.close()
        for fd in (self._parent_alive_pipe, self._memory):
            if fd is not None and fd >= 0:
                os.close(fd)
        self._parent_alive_pipe, self._memory = -1, None

    def end_now(self) -> None:
        """Kill the process without an event loop."""
        self.kill()
        self.close()
        self._started.wait()


def _is_over(started: subprocess.Popen[bytes]) -> bool:
    """Return whether a process has ended; without reaping it where the system can do that."""
    if hasattr(os, "waitid"):
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, started.pid, flags) is not None
        except ChildProcessError:
            # Other code of this program has reaped it.
            return True
    return started.poll() is not None


def _start(connection: int, pipe: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a worker with the same module path, in a process group of its own.

    The path is passed in the environment because the interpreter needs it before its first import;
    the worker restores the variable.
    """
    path = os.pathsep.join(os.path.abspath(p) for p in sys.path)  # noqa: PTH100 - as text
    module = ("-m", "pexpolicy.isolation.worker_main", str(connection), str(pipe))
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        (sys.executable, "-P", "-u", *module),
        stdin=subprocess.DEVNULL,
        stdout=2,
        pass_fds=(connection, pipe),
        env={**environment, "PYTHONPATH": path},
        process_group=0,
    )
