"""What the arbiter waits for: its signals, its workers, and who comes to the control socket."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from pexpolicy.faults import Log
from pexpolicy.reload import control
from pexpolicy.reload.desk import RELOAD
from pexpolicy.reload.verdict import Verdict
from pexpolicy.workers.messages import Link, Order, Report

Heard = Callable[[int, Report], None]
Lost = Callable[[int], None]
Called = Callable[[Callable[[Verdict], None]], None]
"""Takes whom to tell the verdict of a reload that was asked for."""


class Office:
    """One selector for everything. ``heard``, ``lost`` and ``called`` say what has come."""

    def __init__(self, config: Path, log: Log, heard: Heard, lost: Lost, called: Called) -> None:
        self._heard = heard
        self._lost = lost
        self._called = called
        self._links: dict[int, Link] = {}
        self._selector = selectors.DefaultSelector()
        self._bell, self._rope = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(self._rope, False)
        self._selector.register(self._bell, selectors.EVENT_READ, self._rung)
        self._desk = control.bind(config)
        if self._desk is None:
            log.warning("no folder for a control socket: SIGHUP reloads")
        else:
            self._selector.register(self._desk[0], selectors.EVENT_READ, self._accept)

    @property
    def workers(self) -> tuple[int, ...]:
        """The numbers of the workers that are there."""
        return tuple(self._links)

    def ring(self) -> None:
        """Wake whoever waits; safe in a signal handler."""
        with suppress(BlockingIOError):
            os.write(self._rope, b"!")

    def admit(self, worker: int, end: socket.socket) -> None:
        """Listen to a worker."""
        link = self._links[worker] = Link(end)
        self._selector.register(link, selectors.EVENT_READ, lambda: self._hear(worker))

    def send(self, worker: int, order: Order) -> None:
        """Send to a worker; one that does not take it is as good as gone, and soon is."""
        if (link := self._links.get(worker)) is None:
            return
        try:
            link.send(order)
        except OSError:
            link.break_off()

    def wait(self, seconds: float) -> None:
        """Wait until something comes, and see to it."""
        for key, _ in self._selector.select(seconds):
            key.data()

    def close(self) -> None:
        """Take no more calls."""
        if self._desk is not None:
            self._selector.unregister(self._desk[0])
            self._desk[0].close()
            self._desk[1].unlink(missing_ok=True)
            self._desk = None

    def forget(self) -> None:
        """Let go of everything in a worker, which got copies of it when it was forked."""
        self._selector.close()
        os.close(self._bell)
        os.close(self._rope)
        for link in self._links.values():
            link.close()
        if self._desk is not None:
            self._desk[0].close()

    def _rung(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._bell, 1024)

    def _hear(self, worker: int) -> None:
        link = self._links[worker]
        try:
            for report in link.receive():
                self._heard(worker, report)
        except (OSError, EOFError, msgspec.MsgspecError):
            self._selector.unregister(link)
            link.close()
            del self._links[worker]
            self._lost(worker)

    def _accept(self) -> None:
        assert self._desk is not None
        with suppress(OSError):
            caller, _ = self._desk[0].accept()
            caller.setblocking(False)  # noqa: FBT003 - the same
            self._selector.register(caller, selectors.EVENT_READ, lambda: self._serve(caller))

    def _serve(self, caller: socket.socket) -> None:
        self._selector.unregister(caller)
        asked = b""
        with suppress(OSError):
            asked = caller.recv(len(RELOAD))
        if asked != RELOAD:
            caller.close()
            return

        def tell(verdict: Verdict) -> None:
            with suppress(OSError), caller:
                caller.sendall(msgspec.json.encode(verdict) + b"\n")

        self._called(tell)
