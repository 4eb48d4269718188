"""The process of a server: event loop, signals, forced exit, and notifications to systemd."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from pexpolicy.errors import describe_error
from pexpolicy.log import ServerLog
from pexpolicy.tasks import hide

T = TypeVar("T")


def run(server: Coroutine[Any, Any, T]) -> T:
    """Run a server on a new event loop, with uvloop if it is installed.

    It survives ``SystemExit`` and ``KeyboardInterrupt`` in tasks of plugins.
    """
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with suppress(ImportError):
        from uvloop import new_event_loop as factory  # noqa: PLC0415 - an optional dependency
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        task = loop.create_task(server)
        hide(task)
        _run_server(loop, task)
        while not task.done():
            with suppress(RuntimeError):  # a plugin may stop the loop
                loop.run_until_complete(task)
        return task.result()


def _run_server(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    """Run the event loop until a hidden task has ended, even if a plugin stops the loop."""
    root: asyncio.Task[None] | None = None
    while not task.done():
        if root is None or root.done():
            root = loop.create_task(_wait_for(task))
        try:
            loop.run_until_complete(root)
        except asyncio.CancelledError:
            continue  # a plugin cancelled all tasks that it found
        except RuntimeError:
            if root.done():  # otherwise a plugin stopped the loop
                raise
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done():
                return
            log = ServerLog()
            log.output.never_wait()
            log.warning(
                "a task or callback of a plugin failed",
                error=describe_error(error).summary,
            )


async def _wait_for(task: asyncio.Task[Any]) -> None:
    """Wait for a hidden task, in a task that libraries can find.

    Some search all tasks for the one that lasts as long as the event loop: anyio ties its worker
    threads to it.
    """
    await asyncio.wait((task,))


def install_startup_signals() -> None:
    """Exit with 0 at SIGTERM and ignore SIGHUP and SIGUSR1 until the server listens.

    The first process of a container ignores SIGTERM unless it installs a handler. SIGHUP and
    SIGUSR1 would end the process, and there is nothing to reload or reopen yet.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


CHECK_INTERVAL_S = 1.0
"""Seconds between two checks that the handlers are those of the server."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class ShutdownSignal:
    """The shutdown requests that a process has received.

    SIGTERM requests a shutdown after ``drain_delay``. A second one, SIGINT and SIGQUIT skip it.
    """

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.immediate = asyncio.Event()
        self.on_signal: Callable[[], None] = lambda: None
        """Called at each signal, even while a system call blocks the event loop."""
        self._excepthooks = sys.excepthook, threading.excepthook

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Install the signal handlers, and again where code of a plugin has replaced one."""
        loop.add_signal_handler(signal.SIGTERM, self.request)
        for number in (signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(number, self.request_immediate)
        for number in _SIGNALS:
            # The event loop learns of a signal only in its next turn. This handler interrupts a
            # write to a disk that hangs.
            signal.signal(number, self._interrupt)
            signal.siginterrupt(number, True)  # noqa: FBT003 - positional only
        loop.call_later(CHECK_INTERVAL_S, self._check, loop)

    def _interrupt(self, *_: object) -> None:
        self.on_signal()

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        if None in (sys.excepthook, threading.excepthook):
            # Python starts no thread without them.
            sys.excepthook, threading.excepthook = self._excepthooks
            text = "a plugin removed an excepthook, which is installed again"
            logging.getLogger("pexpolicy").warning(text)
        replaced = [n.name for n in _SIGNALS if signal.getsignal(n) != self._interrupt]
        if replaced:
            text = "a plugin replaced the handler of %s, which is installed again"
            logging.getLogger("pexpolicy").warning(text, ", ".join(replaced))
            self.install(loop)
        else:
            loop.call_later(CHECK_INTERVAL_S, self._check, loop)

    def request(self) -> None:
        """Request a shutdown; the second time, one without delay."""
        if self.requested.is_set():
            self.immediate.set()
        self.requested.set()

    def request_immediate(self) -> None:
        """Request a shutdown without delay."""
        self.immediate.set()
        self.requested.set()


class Terminal:
    """The terminal that the server was started on, if any.

    SIGHUP means that the terminal was closed, or it requests a reload. A handler in Python cannot
    see which, but ``isatty`` is false for a descriptor of a closed terminal.
    """

    def __init__(self, descriptors: Iterable[int] = range(3)) -> None:
        self._descriptors = [number for number in descriptors if os.isatty(number)]

    async def watch(self) -> None:
        """Forget a terminal that was closed without SIGHUP, because the server was detached."""
        while self._descriptors:
            await asyncio.sleep(1.0)
            if self.is_closed:
                await asyncio.sleep(1.0)
                self._descriptors = []

    @property
    def is_closed(self) -> bool:
        """True after the terminal was closed."""
        return not all(map(os.isatty, self._descriptors))


SHUTDOWN_TIMEOUT_S = 9.0
"""Seconds from the end of ``drain_delay`` to the exit, including calls and lifespans."""
EXIT_TIMEOUT_S = 2.0
"""Seconds for remaining tasks and threads after the last call was answered."""


def force_exit_after(seconds: float, leftovers: Callable[[], list[str]]) -> None:
    """Exit with 0 after ``seconds``, unless the process has ended before.

    A task that suppresses its cancellation, a thread that never returns or a lifespan that hangs
    would keep the process running. ``leftovers`` returns the names of plugins and hooks to report.
    """
    try:
        timer = threading.Timer(seconds, force_exit, (leftovers,))
        timer.daemon = True
        timer.start()
    except RuntimeError:
        # No thread can be started: plugins have used them all up, or broke their start.
        if not 0.0 < signal.getitimer(signal.ITIMER_REAL)[0] < seconds:
            signal.signal(signal.SIGALRM, lambda *_: force_exit(leftovers))
            signal.setitimer(signal.ITIMER_REAL, seconds)


def force_exit(leftovers: Callable[[], list[str]]) -> None:
    """Report what did not stop and exit now; the interpreter would wait for threads."""
    try:
        names = ", ".join(leftovers()) or "unknown plugin code"
        # The reader of standard error may have stalled.
        if select.select((), (sys.stderr,), (), 0)[1]:
            sys.stderr.write(f"did not stop in time: {names}\n")
            sys.stderr.flush()
    finally:
        os._exit(0)


READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"


def reloading() -> str:
    """Return the message that announces a reload; ``READY`` ends it."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"


def notify(message: str) -> None:
    """Send a message; ignore a missing receiver."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)  # noqa: FBT003 - positional only
        sender.connect(address)
        sender.send(message.encode())


def heartbeat_interval() -> float | None:
    """Return the seconds between heartbeats, half of what systemd allows; ``None``: send none."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        return int(os.environ["WATCHDOG_USEC"]) / 2_000_000
    except (KeyError, ValueError):
        return None


@asynccontextmanager
async def heartbeat() -> AsyncIterator[None]:
    """Send heartbeats from the event loop until exit."""
    task = asyncio.get_running_loop().create_task(_send_heartbeats())
    hide(task)
    try:
        yield
    finally:
        task.cancel()


async def _send_heartbeats() -> None:
    interval = heartbeat_interval()
    while interval:
        notify(ALIVE)
        await asyncio.sleep(interval)
