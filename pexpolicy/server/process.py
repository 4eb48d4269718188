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
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from pexpolicy.errors import describe_error
from pexpolicy.tasks import hide

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
            # A task that libraries can find: anyio ties its threads to the one that lasts as long
            # as the loop.
            root = loop.create_task(asyncio.wait((task,)))
            try:
                loop.run_until_complete(root)
            except asyncio.CancelledError:
                continue
            except RuntimeError:
                if root.done():
                    raise
            except (SystemExit, KeyboardInterrupt) as error:
                text = "a task or callback of a plugin failed: %s"
                logging.getLogger("pexpolicy").warning(text, describe_error(error).summary)
        return task.result()


def install_startup_signals() -> None:
    """Exit with 0 at SIGTERM and ignore SIGHUP and SIGUSR1 until the server listens.

    The first process of a container ignores SIGTERM unless it installs a handler. SIGHUP and
    SIGUSR1 would end the process, and there is nothing to reload or reopen yet.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


BEAT_S = 1.0
"""Seconds between two heartbeats to systemd."""


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
        """Install the signal handlers, and send a heartbeat to systemd, now and each second.

        A plugin may have replaced the handlers.
        """
        notify(ALIVE)
        for number, request in (
            (signal.SIGTERM, self.request),
            (signal.SIGINT, self.request_immediate),
            (signal.SIGQUIT, self.request_immediate),
        ):
            loop.add_signal_handler(number, request)
            # The event loop learns of a signal only in its next turn. This handler interrupts a
            # write to a disk that hangs.
            signal.signal(number, lambda *_: self.on_signal())
            signal.siginterrupt(number, True)  # noqa: FBT003 - positional only
        loop.call_later(BEAT_S, self.install, loop)

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


def force_exit_after(seconds: float, leftovers: Callable[[], list[str]], code: int = 0) -> None:
    """Exit with ``code`` after ``seconds``, unless the process has ended before.

    A task that suppresses its cancellation, a thread that never returns or a lifespan that hangs
    would keep the process running. ``leftovers`` returns the names of plugins and hooks to report.
    """
    timer = threading.Timer(seconds, force_exit, (leftovers, code))
    timer.daemon = True
    with suppress(RuntimeError):  # plugins have used up all threads
        timer.start()


def force_exit(leftovers: Callable[[], list[str]], code: int) -> None:
    """Report what did not stop and exit now; the interpreter would wait for threads."""
    try:
        names = ", ".join(leftovers()) or "unknown plugin code"
        # The reader of standard error may have stalled.
        if select.select((), (sys.stderr,), (), 0)[1]:
            sys.stderr.write(f"did not stop in time: {names}\n")
            sys.stderr.flush()
    finally:
        os._exit(code)


READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"


def notify(message: str) -> None:
    """Send a message to systemd; ignore a missing receiver."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)  # noqa: FBT003 - positional only
        sender.connect("\0" + address[1:] if address.startswith("@") else address)
        sender.send(message.encode())
