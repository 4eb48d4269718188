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
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from pexpolicy.errors import describe_error
from pexpolicy.tasks import hide, start_background

T = TypeVar("T")


def run(server: Coroutine[Any, Any, T]) -> T:
    """Run a server on a new event loop, with uvloop if it is installed.

    It goes on if a plugin stops the loop, cancels all tasks that it finds, or raises
    ``SystemExit`` or ``KeyboardInterrupt`` in one of its own.
    """
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with suppress(ImportError):
        from uvloop import new_event_loop as factory  # noqa: PLC0415 - an optional dependency
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        task = loop.create_task(server)
        hide(task)
        while not task.done():
            _run_until_done(loop, task)
        return task.result()


def _run_until_done(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    """Run the event loop until a hidden task has ended, or a plugin has stopped the loop."""
    # A task that libraries can find: anyio ties its threads to the one that lasts as long as the
    # loop.
    root = loop.create_task(_wait_for(task))
    try:
        loop.run_until_complete(root)
    except asyncio.CancelledError:
        pass
    except RuntimeError:
        if root.done():
            raise
    except (SystemExit, KeyboardInterrupt) as error:
        if not task.done():
            text = "a task or callback of a plugin failed: %s"
            logging.getLogger("pexpolicy").warning(text, describe_error(error).summary)


async def _wait_for(task: asyncio.Task[Any]) -> None:
    await asyncio.wait((task,))


def install_startup_signals() -> None:
    """Exit with 0 at SIGTERM and ignore SIGHUP and SIGUSR1 until the server listens.

    The first process of a container ignores SIGTERM unless it installs a handler. SIGHUP and
    SIGUSR1 would end the process, and there is nothing to reload or reopen yet.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


INSTALL_INTERVAL_S = 1.0
"""Seconds after which the handlers are installed again, as a plugin may have replaced them."""


class ShutdownSignal:
    """The shutdown requests that a process has received.

    SIGTERM requests a shutdown after ``drain_delay``. A second one, SIGINT and SIGQUIT skip it.
    """

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.immediate = asyncio.Event()
        self.on_signal: Callable[[], None] = lambda: None
        """Called at each signal, even while a system call blocks the event loop."""

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Install the signal handlers, now and each second."""
        for number, request in (
            (signal.SIGTERM, self.request),
            (signal.SIGINT, self.request_immediate),
            (signal.SIGQUIT, self.request_immediate),
        ):
            loop.add_signal_handler(number, request)
            # The event loop learns of a signal only in its next turn. This handler interrupts a
            # write to a disk that hangs.
            signal.signal(number, self._interrupt)
            signal.siginterrupt(number, True)  # noqa: FBT003 - positional only
        loop.call_later(INSTALL_INTERVAL_S, self.install, loop)

    def _interrupt(self, *_: object) -> None:
        self.on_signal()

    def request(self) -> None:
        """Request a shutdown; the second time, one without delay."""
        if self.requested.is_set():
            self.immediate.set()
        self.requested.set()

    def request_immediate(self) -> None:
        """Request a shutdown without delay."""
        self.immediate.set()
        self.requested.set()


SHUTDOWN_TIMEOUT_S = 9.0
"""Seconds from the end of ``drain_delay`` to the exit, including calls and lifespans."""
EXIT_TIMEOUT_S = 2.0
"""Seconds for remaining tasks and threads after the last call was answered."""


def force_exit_after(seconds: float, leftovers: Callable[[], list[str]]) -> None:
    """Exit with 0 after ``seconds``, unless the process has ended before.

    A task that suppresses its cancellation, a thread that never returns or a lifespan that hangs
    would keep the process running. ``leftovers`` returns the names of plugins and hooks to report.
    """
    timer = threading.Timer(seconds, force_exit, (leftovers,))
    timer.daemon = True
    with suppress(RuntimeError):  # plugins have used up all threads
        timer.start()


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
    """Send a message to systemd; ignore a missing receiver."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)  # noqa: FBT003 - positional only
        sender.connect("\0" + address[1:] if address.startswith("@") else address)
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
    task = start_background(_send_heartbeats(), set())
    try:
        yield
    finally:
        task.cancel()


async def _send_heartbeats() -> None:
    interval = heartbeat_interval()
    while interval:
        notify(ALIVE)
        await asyncio.sleep(interval)
