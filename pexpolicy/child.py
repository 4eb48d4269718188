"""Child processes with framed messages: the side of the parent, and that of the child.

A frame is a message with its length in four bytes before it. The user of a channel encodes and
decodes the messages. A child that crashes, uses too much memory or sends nonsense fails its call
with ``ChildError`` and is killed; nothing that it sends is trusted.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast

import msgspec

from pexpolicy.text import readable

MAX_FRAME = 16 * 1024 * 1024
"""Bytes of a message, unless its channel has another limit."""
UNLIMITED = 2**32 - 1
LENGTH = 4
MIB = 1024 * 1024
PAGE = os.sysconf("SC_PAGE_SIZE")
EXIT_TIMEOUT_S = 1.0
"""Time for a child to exit after SIGTERM, or after it has closed its socket."""
RESERVED = 1024 * MIB
"""What a process may reserve without using it: stacks of threads, buffers of libraries."""
_SIGNALS = frozenset(signal.Signals)
_PATH, _OWN_PATH, _PIPE = "PYTHONPATH", "PEXPOLICY_CHILD_PYTHONPATH", "PEXPOLICY_CHILD_PIPE"

T = TypeVar("T")


class ChildError(Exception):
    """A child process has ended, used too much memory, or sent something that cannot be read."""


def encode(message: Any) -> bytes:
    """Encode a message of types that msgspec knows, as MessagePack."""
    try:
        return msgspec.msgpack.encode(message)
    except UnicodeEncodeError:
        return msgspec.msgpack.encode(readable(msgspec.to_builtins(message, builtin_types=[bytes])))


class Channel(asyncio.Protocol, Generic[T]):
    """Messages over a socket; blocking, or on an event loop from ``attach`` on.

    On an event loop, a subclass can override ``on_message``.
    """

    def __init__(
        self,
        name: str,
        end: socket.socket,
        decode: Callable[[bytes], T],
        encode: Callable[[Any], bytes] = encode,
    ) -> None:
        self.name = name
        """What is at the other end, as the subject of a sentence."""
        self.limit = MAX_FRAME
        """Bytes of a message in either direction."""
        self.has_ended = False
        """True once the other end has closed the socket."""
        self.on_end: Callable[[], None] = lambda: None
        """Called on the event loop when that happens."""
        self._socket = end
        self._decode, self._encode = decode, encode
        self._received = bytearray()
        self._answer: asyncio.Future[T] | None = None
        self._transport: asyncio.WriteTransport | None = None

    def send(self, message: object, deadline: float | None = None) -> None:
        """Send a message; raises ``ChildError`` for one that is too long.

        Without an event loop it waits, until a time of the monotonic clock, and raises
        ``TimeoutError``.
        """
        content = self._encode(message)
        if len(content) > self.limit:
            msg = f"{len(content)} bytes exceed the limit of a message ({self.limit})"
            raise ChildError(msg)
        frame = len(content).to_bytes(LENGTH, "big") + content
        if self._transport is None:
            with suppress(ConnectionError):  # the next receive tells why
                self._within(deadline).sendall(frame)
        elif not self.has_ended:
            self._transport.write(frame)

    def receive(self, deadline: float | None = None) -> T:
        """Wait for a message, until a time of the monotonic clock.

        Raises ``EOFError`` where the other end has closed the socket, ``TimeoutError``, and
        ``ChildError``.
        """
        length = self._check(self._read(LENGTH, deadline))
        return self._decoded(self._read(length, deadline))

    def __iter__(self) -> Iterator[T]:
        """Wait for message after message, until the other end has closed the socket."""
        with suppress(EOFError):
            while True:
                yield self.receive()

    def _read(self, size: int, deadline: float | None) -> bytes:
        content = bytearray()
        while len(content) < size:
            try:
                piece = self._within(deadline).recv(min(size - len(content), MIB))
            except ConnectionError:
                piece = b""
            if not piece:
                raise EOFError
            content += piece
        return bytes(content)

    def _within(self, deadline: float | None) -> socket.socket:
        left = None if deadline is None else max(deadline - time.monotonic(), 0.001)
        self._socket.settimeout(left)
        return self._socket

    def _check(self, prefix: bytes | bytearray) -> int:
        length = int.from_bytes(prefix, "big")
        if length > self.limit:
            msg = f"{self.name} sent a message that is too long"
            raise ChildError(msg)
        return length

    def _decoded(self, content: bytes) -> T:
        try:
            return self._decode(content)
        except Exception as error:  # noqa: BLE001 - each decoder raises its own
            msg = f"{self.name} sent something that cannot be read: {error}"
            raise ChildError(msg) from None

    async def attach(self) -> None:
        """Exchange messages on the running event loop from now on."""
        self._socket.setblocking(False)  # noqa: FBT003 - its own signature
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self, sock=self._socket)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass on each complete message; close the socket after one that makes no sense."""
        received = self._received
        received += data
        try:
            while len(received) >= LENGTH:
                end = LENGTH + self._check(received[:LENGTH])
                if len(received) < end:
                    return
                content = bytes(received[LENGTH:end])
                del received[:end]
                self.on_message(self._decoded(content))
        except ChildError as error:
            self.fail(error)
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the pending question."""
        self.has_ended = True
        self.fail(ConnectionResetError())
        self.on_end()

    def on_message(self, message: T) -> None:
        """Answer the pending question; raises ``ChildError`` without one."""
        if not self.answer(message):
            msg = f"{self.name} sent a message without a request"
            raise ChildError(msg)

    def answer(self, message: T) -> bool:
        """Answer the pending question; return false without one."""
        is_pending = self._answer is not None and not self._answer.done()
        if self._answer is not None and is_pending:
            self._answer.set_result(message)
        return is_pending

    def fail(self, error: Exception) -> None:
        """Fail the pending question."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    async def ask(self, message: object, seconds: float | None = None) -> T:
        """Return the answer to a question, one question at a time.

        Raises ``TimeoutError``, ``ChildError``, and ``ConnectionResetError`` where the other end
        has closed the socket. The answer to the next question could be that to this one after that.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._answer = answer
        try:
            if self.has_ended:
                raise ConnectionResetError
            self.send(message)
            if seconds is None:
                return await answer
            async with asyncio.timeout(seconds):
                return await answer
        finally:
            self._answer = None

    def close_copy(self) -> None:
        """Close the socket in a forked process, which must leave the event loop alone."""
        self._socket.close()

    def close(self) -> None:
        """Close the socket after what was sent."""
        (self._transport or self._socket).close()


class Child(Channel[T]):
    """A process that runs ``python -m MODULE ARGUMENTS``, and the channel to it.

    The module calls ``parent_socket()`` first. ``environment`` is ours by default, ``flags`` are
    those of the interpreter. ``excess`` compares its memory with ``memory_mb``; an allocation
    that exceeds it by far fails in the child.
    """

    def __init__(
        self,
        name: str,
        module: str,
        *arguments: str,
        decode: Callable[[bytes], T],
        encode: Callable[[Any], bytes] = encode,
        environment: Mapping[str, str] | None = None,
        flags: Iterable[str] = (),
        memory_mb: int | None = None,
    ) -> None:
        ours, theirs = socket.socketpair()
        super().__init__(name, ours, decode, encode)
        self.calls = 0
        """The questions that were asked after it was ready."""
        self.idle_failures = 0
        """The children before it that ended without a call, if a pool has restarted it."""
        self.memory_mb = memory_mb
        self._statm = -1
        # Nothing is written to this pipe: it closes when this process ends.
        read_end, self._pipe = os.pipe()
        environment = {**(os.environ if environment is None else environment)}
        if _PATH in os.environ:
            environment[_OWN_PATH] = os.environ[_PATH]
        # In the environment because the interpreter needs it before its first import.
        environment[_PATH] = os.pathsep.join(map(os.path.abspath, sys.path))
        environment[_PIPE] = str(read_end)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                (sys.executable, "-P", "-u", *flags, "-m", module, *arguments),
                stdin=theirs.fileno(),
                stdout=2,
                pass_fds=(read_end,),
                env=environment,
                process_group=0,
            )
        except BaseException:
            ours.close()
            os.close(self._pipe)
            raise
        finally:
            theirs.close()
            os.close(read_end)
        self.pid = self._process.pid
        if memory_mb is not None:
            with suppress(OSError):
                self._statm = os.open(f"/proc/{self.pid}/statm", os.O_RDONLY)
            if hasattr(resource, "prlimit"):
                most = 2 * memory_mb * MIB + RESERVED
                with suppress(OSError):  # it has ended
                    resource.prlimit(self.pid, resource.RLIMIT_DATA, (most, most))

    async def ready(self) -> None:
        """Attach the child; a subclass can do more until the first call of a pool."""
        await self.attach()

    async def ask(self, message: object, seconds: float | None = None) -> T:
        """Return the answer to a question; raises ``TimeoutError`` and ``ChildError``.

        After any exception the child is killed, as the answer may still come.
        """
        try:
            return await super().ask(message, seconds)
        except ConnectionResetError:
            await self._wait(EXIT_TIMEOUT_S)
            raise ChildError(self.exit_reason) from None
        except BaseException:
            self.kill()
            raise

    def receive(self, deadline: float | None = None) -> T:
        """Wait for a message; raises ``TimeoutError`` and ``ChildError``."""
        try:
            return super().receive(deadline)
        except EOFError:
            latest = time.monotonic() + EXIT_TIMEOUT_S
            while not self._is_over() and time.monotonic() < latest:
                time.sleep(0.001)
            raise ChildError(self.exit_reason) from None

    def excess(self) -> str:
        """Return by how much it exceeds its memory, as a sentence; empty if it does not."""
        if self.memory_mb is None:
            return ""
        try:
            used = int(os.pread(self._statm, 100, 0).split()[1]) * PAGE // MIB
        except (OSError, ValueError, IndexError):
            return ""
        if used <= self.memory_mb:
            return ""
        return f"{self.name} used {used} MiB of memory, and its memory_mb is {self.memory_mb}"

    @property
    def exit_reason(self) -> str:
        """How the process ended, as a sentence."""
        code = self._process.returncode
        if code is None:
            return f"{self.name} does not answer"
        if code < 0:
            # Not all real-time signals have a name.
            name = signal.Signals(-code).name if -code in _SIGNALS else f"signal {-code}"
            return f"{self.name} ended with {name}"
        return f"{self.name} ended with exit code {code}"

    def _is_over(self) -> bool:
        """Return whether the process has ended and was reaped; its children are killed then."""
        if self._process.returncode is None:
            if not hasattr(os, "waitid"):
                return self._process.poll() is not None
            with suppress(ChildProcessError):  # other code of this program has reaped it
                if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                    return False
            self.kill()
            self._process.wait()
        return True

    def kill(self) -> None:
        """Kill the process and its children."""
        # Until it is reaped, no other process can have its ID.
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    async def _wait(self, seconds: float) -> bool:
        """Wait for the end of the process; false if it has not ended after ``seconds``."""
        deadline, pause = time.monotonic() + seconds, 0.001
        while not self._is_over():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.05)
        return True

    async def end(self, grace: float = 0.0) -> None:
        """End the process and wait until it is gone: SIGTERM, ``grace`` seconds, SIGKILL."""
        try:
            if grace and not self._is_over():
                self._process.terminate()
                await self._wait(grace)
        finally:
            self.kill()
            self.close()
        while not await self._wait(EXIT_TIMEOUT_S):
            self.kill()

    def end_now(self) -> None:
        """Kill the process without an event loop, and wait for it."""
        self.kill()
        self.close()
        self._process.wait()

    def close(self) -> None:
        """Close the socket and the other descriptors; the child ends."""
        if self._transport is not None:
            with suppress(RuntimeError):  # its loop may be closed when the program ends
                self._transport.abort()
        self._socket.close()
        for descriptor in (self._pipe, self._statm):
            if descriptor >= 0:
                os.close(descriptor)
        self._pipe = self._statm = -1


def parent_socket() -> socket.socket:
    """Return the socket to the parent, in a process that was started as a ``Child``.

    What the process prints goes to its standard error. The kernel kills the process when
    its parent ends, even inside code that blocks. Where it cannot, as on macOS, the end of the
    socket is noticed once that code returns.
    """
    # Signals that a terminal or a service sends to the whole group are for the parent.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    # A core dump would hold PINs.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection, pipe = os.dup(0), int(os.environ.pop(_PIPE))
    os.set_inheritable(pipe, False)  # noqa: FBT003 - its own signature
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(pipe, fcntl.F_GETFL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, flags | os.O_ASYNC)
    if select.select((pipe,), (), (), 0)[0]:
        sys.exit(1)
    os.environ.pop(_PATH, None)
    if (path := os.environ.pop(_OWN_PATH, None)) is not None:
        os.environ[_PATH] = path
    return socket.socket(fileno=connection)
