"""The signals that end a server: one asks for an orderly end, the next for a quick one."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress

from pexpolicy.observability.health import Readiness, ReadinessState


def install_startup_signals() -> None:
    """End by SIGTERM with exit code 0 until the server listens, and take no notice of SIGHUP and
    SIGUSR1, at which other programs end: there is nothing to reload or to open anew yet.

    The first program of a container ignores signals that it says nothing about.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


class ShutdownSignal:
    """What was asked of a server so far.

    SIGTERM asks once. SIGINT and SIGQUIT, the keys of a terminal, ask for an end without delay.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()
        self.heard: Callable[[], None] = lambda: None
        """Called when a signal comes, even while a system call holds the event loop."""

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take the signals of the process."""
        loop.add_signal_handler(signal.SIGTERM, self.ask)
        for number in (signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(number, self.hurry)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            # The loop hears of a signal by its own pipe, when it turns. A write to a disk that does
            # not answer is only interrupted, to call this.
            signal.signal(number, lambda *_: self.heard())
            signal.siginterrupt(number, True)  # noqa: FBT003 - the standard library's

    def ask(self) -> None:
        """Ask for the end; the second time, for one without delay."""
        if self.asked.is_set():
            self.hurried.set()
        self.asked.set()

    def hurry(self) -> None:
        """Ask for the end, and for one without delay."""
        self.hurried.set()
        self.asked.set()


class Terminal:
    """The terminal that a program was started on, if any.

    SIGHUP comes from the kernel when it is closed, and asks for a reload otherwise; a handler in
    Python is not told which. A descriptor of a closed terminal is none any more.
    """

    def __init__(self, descriptors: Iterable[int] = range(3)) -> None:
        self._descriptors = [number for number in descriptors if os.isatty(number)]

    async def forget(self) -> None:
        """Forget a terminal that was closed without SIGHUP: the server was detached from it."""
        while self._descriptors:
            await asyncio.sleep(1.0)
            if self.is_closed:
                await asyncio.sleep(1.0)
                self._descriptors = []

    @property
    def is_closed(self) -> bool:
        """True once it was closed."""
        return not all(map(os.isatty, self._descriptors))


async def drain(readiness: Readiness, stop: ShutdownSignal, delay: float) -> None:
    """Say at ``/readyz`` that no more calls should come, and go on answering for ``delay`` seconds.

    Each reply closes its connection meanwhile. A second signal cuts the delay short.
    """
    readiness.state = ReadinessState.DRAINING
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.hurried.wait(), delay)


STOPPING = 9.0
"""Seconds from the signal to the end, with all calls under way and all lifespans."""
LINGERING = 2.0
"""Seconds for the tasks and threads that are left once the last call is answered."""


def force_exit_after(seconds: float, leftovers: Callable[[], list[str]]) -> None:
    """End the process with exit code 0 after ``seconds``, unless it has ended by itself.

    A task that swallows its cancellation, a thread that never returns or a lifespan that hangs
    would each keep it for ever. ``leftovers`` names what was left behind, as far as it is known.
    """
    timer = threading.Timer(seconds, force_exit, (leftovers,))
    timer.daemon = True
    timer.start()


def force_exit(leftovers: Callable[[], list[str]]) -> None:
    """Name what is left behind, and end the process now: the interpreter would wait for it."""
    names = ", ".join(leftovers()) or "code of plugins that does not end"
    try:
        sys.stderr.write(f"did not stop in time: {names}\n")
        sys.stderr.flush()
    finally:
        os._exit(0)
