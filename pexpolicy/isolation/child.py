"""Child processes with framed messages: both ends, and a pool of children.

A frame is a message with its length in four bytes before it, as ``multiprocessing.Connection``
reads and writes it: a child without an event loop uses that for its end. The user of a channel
encodes and decodes the messages. A child that crashes, uses too much memory or sends nonsense fails
its call with ``ChildError`` and is killed; nothing that it sends is trusted.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import msgspec

from pexpolicy.chain.hook_tasks import MAX_WAITING, CallQueue, PluginBusyError
from pexpolicy.errors import ErrorReport
from pexpolicy.tasks import end_tasks, run_in_thread, start_background
from pexpolicy.text import readable

MAX_FRAME = 16 * 1024 * 1024
"""Bytes of a message, unless its channel has another limit."""
UNLIMITED = 2**31 - 1
LENGTH = 4
MIB = 1024 * 1024
PAGE = os.sysconf("SC_PAGE_SIZE")
EXIT_TIMEOUT_S = 1.0
"""Time for a child to exit after SIGTERM or the end of a plugin's lifespan, or of its socket."""
WAIT_INTERVAL_S = 0.002
"""Interval between two looks whether it has."""
RESERVED = 1024 * MIB
"""What a process may reserve without using it: stacks of threads, buffers of libraries."""
PR_SET_PDEATHSIG = 1
_RUN = (
    "import runpy, sys; sys.path[:] = {path}; "
    "runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
)
"""The program of a child: its module, found where this process would find it."""

T = TypeVar("T")


class ChildError(Exception):
    """A failure in or of a child process; ``fault`` has the traceback of a failure inside."""

    def __init__(self, summary: str, fault: ErrorReport | None = None) -> None:
        super().__init__(summary)
        self.fault = fault or ErrorReport(summary, [])


def encode(message: Any) -> bytes:
    """Encode a message of types that msgspec knows, as MessagePack."""
    try:
        return msgspec.msgpack.encode(message)
    except UnicodeEncodeError:
        return msgspec.msgpack.encode(readable(msgspec.to_builtins(message, builtin_types=[bytes])))


class Channel(asyncio.Protocol, Generic[T]):
    """Messages over a socket on an event loop; a subclass can override ``on_message``."""

    _transport: asyncio.WriteTransport | None = None
    _answer: asyncio.Future[T] | None = None
    limit = MAX_FRAME
    """Bytes of a message that is received."""
    has_ended = False
    """True once the other end has closed the socket."""

    def __init__(
        self,
        name: str,
        end: socket.socket,
        decode: Callable[[bytes], T],
        encode: Callable[[Any], bytes] = encode,
    ) -> None:
        self.name = name
        """What is at the other end, as the subject of a sentence."""
        self.on_end: Callable[[], None] = lambda: None
        """Called when the other end has closed the socket."""
        self._socket = end
        self._decode, self._encode = decode, encode
        self._received = bytearray()

    def send(self, message: object) -> None:
        """Send a message, unless the other end has closed the socket."""
        content = self._encode(message)
        if self._transport is not None and not self.has_ended:
            self._transport.write(len(content).to_bytes(LENGTH, "big") + content)

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
                end = LENGTH + int.from_bytes(received[:LENGTH], "big")
                if end > LENGTH + self.limit:
                    raise ChildError(f"{self.name} sent a message that is too long")  # noqa: TRY301
                if len(received) < end:
                    break
                content = bytes(received[LENGTH:end])
                del received[:end]
                self.on_message(self._decoded(content))
        except ChildError as error:
            self.fail(error)
            self.close()

    def _decoded(self, content: bytes) -> T:
        try:
            return self._decode(content)
        except Exception as error:  # noqa: BLE001 - each decoder raises its own
            text = f"{self.name} sent something that cannot be read: {error}"
            raise ChildError(text) from None

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the pending question."""
        self.has_ended = True
        self.fail(ConnectionResetError())
        self.on_end()

    def on_message(self, message: T) -> None:
        """Answer the pending question; raises ``ChildError`` without one."""
        if not self.answer(message):
            raise ChildError(f"{self.name} sent a message without a request")

    def answer(self, message: T) -> bool:
        """Answer the pending question; return false without one."""
        if self._answer is None or self._answer.done():
            return False
        self._answer.set_result(message)
        return True

    def fail(self, error: Exception) -> None:
        """Fail the pending question."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    async def ask(self, message: object, seconds: float | None = None) -> T:
        """Return the answer to a question, one question at a time.

        Raises ``TimeoutError``, ``ChildError``, and ``ConnectionResetError`` where the other end
        has closed the socket. The answer to the next question could be that to this one after that.
        """
        if self.has_ended:
            raise ConnectionResetError
        self.send(message)
        self._answer = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(seconds):
            return await self._answer

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
        self._memory_mb = memory_mb
        program = _RUN.format(path=[*map(os.path.abspath, sys.path)], module=module)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                (sys.executable, "-P", "-u", *flags, "-c", program, *arguments),
                stdin=theirs.fileno(),
                stdout=2,
                env=environment,
                process_group=0,
            )
        except BaseException:
            self.close()
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid
        if memory_mb is not None and hasattr(resource, "prlimit"):
            most = 2 * memory_mb * MIB + RESERVED
            with suppress(OSError):  # it has ended
                resource.prlimit(self.pid, resource.RLIMIT_DATA, (most, most))

    async def ready(self) -> Any:
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

    def excess(self) -> str:
        """Return by how much it exceeds its memory, as a sentence; empty if it does not."""
        if self._memory_mb is None:
            return ""
        try:
            used = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE // MIB
        except (OSError, IndexError):
            return ""
        if used <= self._memory_mb:
            return ""
        return f"{self.name} used {used} MiB of memory, and its memory_mb is {self._memory_mb}"

    @property
    def exit_reason(self) -> str:
        """How the process ended, as a sentence."""
        code = self._process.returncode
        if code is None:
            return f"{self.name} does not answer"
        if code >= 0:
            return f"{self.name} ended with exit code {code}"
        try:
            return f"{self.name} ended with {signal.Signals(-code).name}"
        except ValueError:  # a real-time signal
            return f"{self.name} ended with signal {-code}"

    def kill(self) -> None:
        """Kill the process and those that it started."""
        # Until it is reaped, no other process can have its ID.
        if self._process.returncode is None:
            self._kill_group()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._process.returncode is None and time.monotonic() < deadline:
            if self._process.poll() is None:
                await asyncio.sleep(WAIT_INTERVAL_S)
            else:
                self._kill_group()

    async def end(self, grace: float = 0.0) -> None:
        """End the process and wait until it is gone: SIGTERM, ``grace`` seconds, SIGKILL."""
        try:
            if grace and self._process.returncode is None:
                self._process.terminate()
                await self._wait(grace)
        finally:
            self.kill()
            self.close()
        while self._process.returncode is None:
            await self._wait(EXIT_TIMEOUT_S)

    def close(self) -> None:
        """Close the socket; the child ends."""
        if self._transport is not None:
            with suppress(RuntimeError):  # its loop may be closed when the program ends
                self._transport.abort()
        self._socket.close()


def parent_socket() -> socket.socket:
    """Return the socket to the parent, in a process that was started as a ``Child``.

    What the process prints goes to its standard error. The kernel kills the process when the
    thread that started it ends, even inside code that blocks. Where it cannot, as on macOS, the end
    of the socket is noticed once that code returns.
    """
    # Signals that a terminal or a service sends to the whole group are for the parent.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    # A core dump would hold PINs.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = os.dup(0)
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    with suppress(AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return socket.socket(fileno=connection)


START_TIMEOUT_S = 15.0
"""Time for a child of a pool to become ready."""
MIN_RESTART_DELAY_S = 0.1
MAX_RESTART_DELAY_S = 30.0
"""Delay of the next start after two failures without a call between them; doubled each time."""
MEMORY_INTERVAL_S = 0.1
"""Interval between two memory checks."""

C = TypeVar("C", bound=Child[Any])
_log = logging.getLogger("pexpolicy.isolation.child")


class ChildPool(Generic[C]):
    """Children with one call at a time each; one that fails is killed and replaced.

    ``make`` starts a process. Further calls wait, ``max_waiting`` of them at most.
    """

    restarts = 0
    """The number of children that were replaced."""
    _failures = 0
    """Children that ended or did not start since the last call."""
    _pausing = 0
    """Children whose next start is delayed."""
    _error = ""
    """Why all calls fail while that is true of each child."""
    _is_closed = True

    def __init__(
        self, name: str, size: int, make: Callable[[], C], max_waiting: int = MAX_WAITING
    ) -> None:
        self.children: set[C] = set()
        self._name = name
        self._size = size
        self._make = make
        self._idle: list[C] = []
        self._queue = CallQueue(0, max_waiting)
        """A place for each idle child; a call whose turn comes without one waits for the next."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Start all children; raises what the first one raises that does not get ready."""
        self._is_closed = False
        _ = start_background(self._check_memory(), self._tasks)
        children = [self._add() for _ in range(self._size)]
        await asyncio.gather(*(child.ready() for child in children))
        for child in children:
            self._release(child)

    def _add(self) -> C:
        child = self._make()
        self.children.add(child)
        child.on_end = partial(self._lost, child)
        return child

    async def close(self, grace: float = 0.0) -> None:
        """End all children, each within ``grace`` seconds, and wait for them."""
        self._is_closed = True
        self._idle.clear()
        self._fail(f"the processes of {self._name} have ended")
        await end_tasks(self._tasks, EXIT_TIMEOUT_S)
        await asyncio.gather(*(child.end(grace) for child in self.children))
        self.children.clear()

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[C]:
        """Wait for a child that is ready; raises ``ChildError`` and ``PluginBusyError``.

        It is replaced where the block raises.
        """
        child = await self._next()
        self._failures = 0
        try:
            yield child
        except BaseException:
            self._replace(child)
            raise
        self._release(child)

    async def _next(self) -> C:
        if self._queue.is_full and not self._is_down:
            msg = f"all {self._size} workers are busy, and {self._queue.waiting} calls are waiting"
            raise PluginBusyError(msg)
        while not self._is_down:
            await self._queue.acquire()
            if self._idle:
                return self._idle.pop()
        raise ChildError(self._error)

    @property
    def _is_down(self) -> bool:
        return self._is_closed or self._pausing == self._size

    def _fail(self, error: str) -> None:
        """Fail the calls that wait if no child can answer them soon."""
        self._error = error
        if self._is_down:
            for _ in range(self._queue.waiting):
                self._queue.release()

    def _release(self, child: C) -> None:
        if child.has_ended:
            self._replace(child)
        else:
            self._idle.append(child)
            self._queue.release()

    def _lost(self, child: C) -> None:
        if child in self._idle:
            self._idle.remove(child)
            self._replace(child)

    def _replace(self, child: C) -> None:
        child.kill()
        if child in self.children and not self._is_closed:
            self.restarts += 1
            _ = start_background(self._renew(child), self._tasks)

    async def _renew(self, child: C) -> None:
        """Replace a child; with a growing delay while children end before a call."""
        error = ""
        while True:
            await child.end()
            self.children.discard(child)
            self._failures += 1
            if self._failures > 1:
                delay = MIN_RESTART_DELAY_S * 2 ** min(self._failures - 2, 20)
                self._pausing += 1
                self._fail(error or child.exit_reason)
                await asyncio.sleep(min(delay, MAX_RESTART_DELAY_S))
                self._pausing -= 1
            try:
                child = self._add()
                async with asyncio.timeout(START_TIMEOUT_S):
                    await child.ready()
            except Exception as problem:  # noqa: BLE001 - every failure is retried
                text = str(problem) or "it was not ready in time"
                error = f"{self._name} cannot be started again: {text}"
            else:
                break
        self._release(child)

    async def _check_memory(self) -> None:
        """Replace children that use too much memory.

        The kernel answers late for a child that starts processes, so a thread asks it.
        """
        while True:
            await asyncio.sleep(MEMORY_INTERVAL_S)
            children = [*self.children]
            measure = partial(list[str], map(Child.excess, children))
            with suppress(RuntimeError):  # plugins have used up all threads
                found = await run_in_thread(measure, "pexpolicy-memory")
                for child, excess in zip(children, found, strict=True):
                    if excess:
                        _log.warning("%s: it is replaced", excess)
                        child.fail(ChildError(excess))
                        self._lost(child)
