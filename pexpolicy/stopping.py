"""The signals that end a server: one asks for an orderly end, the next for a quick one."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable


def stop_at_once() -> None:
    """End by SIGTERM with exit code 0 until the server listens, and take no notice of SIGHUP and
    SIGUSR1, at which other programs end: there is nothing to reload or to open anew yet.

    The first program of a container ignores signals that it says nothing about.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


class Stop:
    """What was asked of a server so far.

    SIGTERM asks once. SIGINT asks twice: somebody sits at a terminal and waits.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()
        self.heard: Callable[[], None] = lambda: None
        """Called when a signal comes, even while a system call holds the event loop."""

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take the signals of the process."""
        loop.add_signal_handler(signal.SIGTERM, self.ask)
        loop.add_signal_handler(signal.SIGINT, self.hurry)
        for number in (signal.SIGTERM, signal.SIGINT):
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
