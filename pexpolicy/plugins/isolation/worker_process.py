"""The server's end of one worker: a process that runs one plugin, and the socket to it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from pexpolicy.plugins.isolation.messages import (
    FrameDecoder,
    HookFailed,
    Message,
    OkReply,
    Report,
    StartRequest,
    WorkerError,
    framed,
    report,
)

ENDING_LIMIT = 1.0
"""Seconds that a worker has to end in by itself."""
PAGE = os.sysconf("SC_PAGE_SIZE")


class WorkerProcess(asyncio.Protocol):
    """One process with one plugin in it; it answers one call at a time.

    ``begun`` counts the calls that it was given, ``barren`` the workers before it that ended
    without one. ``on_loss`` is called when it ends while nothing is asked of it.
    """

    def __init__(self, name: str, barren: int = 0) -> None:
        self.name = name
        self.begun = 0
        self.barren = barren
        self.lost = False
        self.on_loss: Callable[[WorkerProcess], None] | None = None
        self._frames = FrameDecoder()
        self._answer: asyncio.Future[Report] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._memory: int | None = None
        self._socket, theirs = socket.socketpair()
        # Nobody writes to this pipe: that its end closes is how a worker learns of our death.
        watched, self._lifeline = os.pipe()
        try:
            self._started = _start(theirs.fileno(), watched)
        except BaseException:
            self._socket.close()
            os.close(self._lifeline)
            raise
        finally:
            theirs.close()
            os.close(watched)
        try:
            self._memory = os.open(f"/proc/{self._started.pid}/statm", os.O_RDONLY)
        except OSError:
            self._memory = None

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._started.pid

    def post(self, message: Message, deadline: float) -> None:
        """Send, before there is an event loop; what it answers is told by ``await_report``."""
        with suppress(ConnectionError):
            self._within(deadline).sendall(framed(message))

    def await_report(self, deadline: float) -> Report:
        """The first answer, before there is an event loop; raises ``WorkerError``."""
        try:
            while piece := self._within(deadline).recv(65536):
                for frame in self._frames.feed(piece):
                    return report(frame)
        except TimeoutError:
            msg = f"the worker process of {self.name} did not get ready in time"
            raise WorkerError(msg) from None
        except ConnectionError:
            pass
        deadline = time.monotonic() + ENDING_LIMIT
        while not self._has_ended() and time.monotonic() < deadline:
            time.sleep(0.001)
        raise WorkerError(self.obituary)

    def _within(self, deadline: float) -> socket.socket:
        self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
        return self._socket

    async def adopt(self) -> None:
        """Go on with the socket on the running event loop."""
        loop = asyncio.get_running_loop()
        self._socket.setblocking(False)  # noqa: FBT003 - its own signature
        await loop.create_unix_connection(lambda: self, sock=self._socket)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand an answer to whoever waits for it; a worker that speaks unasked is ended."""
        try:
            for frame in self._frames.feed(data):
                if self._answer is None or self._answer.done():
                    msg = f"the worker of {self.name} spoke without being asked"
                    raise WorkerError(msg)  # noqa: TRY301 - one place says what follows
                self._answer.set_result(report(frame))
        except WorkerError as fault:
            self.fail(fault)
            assert self._transport is not None
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits learns that there is no answer."""
        self.lost = True
        if self._answer is not None:
            self.fail(ConnectionResetError())
        elif self.on_loss is not None:
            self.on_loss(self)

    def fail(self, error: Exception) -> None:
        """Let the call that is under way fail."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    async def call(self, message: Message) -> Report:
        """Ask the worker; raises ``WorkerError`` when it ends instead of answering.

        Whatever this raises, the worker is good for nothing any more.
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
            if not await self._ended(ENDING_LIMIT):
                self.kill()
                await self._ended(ENDING_LIMIT)
            raise WorkerError(self.obituary) from None
        finally:
            self._answer = None

    async def open(self) -> None:
        """Enter the plugin's lifespan; raises ``WorkerError``."""
        told = await self.call(StartRequest())
        if isinstance(told, HookFailed):
            raise WorkerError(told.summary, told.lines)
        if not isinstance(told, OkReply):
            msg = f"the worker of {self.name} gave a strange answer"
            raise WorkerError(msg)

    @property
    def memory(self) -> int:
        """Resident memory in bytes; 0 where the system does not tell."""
        if self._memory is None:
            return 0
        try:
            return int(os.pread(self._memory, 100, 0).split()[1]) * PAGE
        except (OSError, IndexError):
            return 0

    @property
    def obituary(self) -> str:
        """How it ended, in words."""
        code = self._started.returncode
        if code is None:
            return f"the worker process of {self.name} does not answer any more"
        if code < 0:
            return f"the worker process of {self.name} ended with {signal.Signals(-code).name}"
        return f"the worker process of {self.name} ended with exit code {code}"

    def _has_ended(self) -> bool:
        """True once the process has ended, and is waited for; what it has started ends with it."""
        started = self._started
        if started.returncode is None and _is_over(started):
            self.kill()
            started.wait()
        return started.returncode is not None

    def kill(self) -> None:
        """End it, and what it has started, at once."""
        # Until it has been waited for, nobody else can have its number.
        if self._started.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._started.pid, signal.SIGKILL)

    async def _ended(self, limit: float) -> bool:
        """Wait until the process has ended; false when it has not after ``limit`` seconds."""
        deadline = time.monotonic() + limit
        pause = 0.001
        while not self._has_ended():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.05)
        return True

    async def end(self, patience: float = ENDING_LIMIT) -> None:
        """End it: SIGTERM, ``patience`` seconds, SIGKILL. Afterwards nothing of it is left."""
        try:
            if patience and not self._has_ended():
                self._started.terminate()
                await self._ended(patience)
        finally:
            self.kill()
            self.close()
        while not await self._ended(ENDING_LIMIT):
            self.kill()

    def close(self) -> None:
        """Let the socket and the pipe go."""
        self.on_loss = None
        if self._transport is not None:
            # Its loop may be closed when this is the last resort of a program that ends.
            with suppress(RuntimeError):
                self._transport.abort()
        self._socket.close()
        for fd in (self._lifeline, self._memory):
            if fd is not None and fd >= 0:
                os.close(fd)
        self._lifeline, self._memory = -1, None

    def end_now(self) -> None:
        """End it where there is no event loop."""
        self.kill()
        self.close()
        self._started.wait()


def _is_over(started: subprocess.Popen[bytes]) -> bool:
    """True when a process has ended; where the system can tell, without waiting for it yet."""
    if hasattr(os, "waitid"):
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, started.pid, flags) is not None
        except ChildProcessError:
            # Somebody else in this program has waited for it.
            return True
    return started.poll() is not None


def _start(connection: int, lifeline: int) -> subprocess.Popen[bytes]:
    """A worker with the same modules in reach as here, in a group of its own.

    The path is given by the environment because the interpreter needs it before it can import any
    of this; the worker puts the variable back.
    """
    path = os.pathsep.join(os.path.abspath(p) for p in sys.path)  # noqa: PTH100 - as text
    module = ("-m", "pexpolicy.plugins.isolation.worker_main", str(connection), str(lifeline))
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        (sys.executable, "-P", "-u", *module),
        stdin=subprocess.DEVNULL,
        stdout=2,
        pass_fds=(connection, lifeline),
        env={**os.environ, "PYTHONPATH": path},
        process_group=0,
    )
