"""One worker: a server like any other, that reloads when the arbiter says so."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from gunicorn.workers.base import Worker

from pexpolicy import ending
from pexpolicy.admin.listener import Operators
from pexpolicy.config import ConfigError, OpeningError
from pexpolicy.event_loop import run
from pexpolicy.hidden import hide
from pexpolicy.logs import console_log
from pexpolicy.policy import Policy
from pexpolicy.reload.aside import aside
from pexpolicy.reload.reloading import Build, Reloads
from pexpolicy.serving import Leftovers, Surroundings, announcement, serve
from pexpolicy.stopping import Stop
from pexpolicy.workers.messages import Refused, Serving, framed
from pexpolicy.workers.obeying import Obeying

if TYPE_CHECKING:
    from pexpolicy.workers.office import Office

BEAT = 1.0
"""Seconds between two signs of life for the arbiter."""
AGAIN = 1.0
"""Seconds until a worker that cannot serve makes place for another."""
CANNOT_SERVE = 4
"""Exit code by which gunicorn's arbiter ends, rather than to start the same worker again."""
TRY_AGAIN = 1
"""Exit code by which it starts another, with what is in force by then."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker has to do: make the policy of this content, and serve it.

    A worker that takes the place of another ``may_wait`` until that is possible; the first ones
    end the server.
    """

    build: Build
    content: bytes
    office: Office | None = None
    may_wait: bool = False
    operators: Operators = field(default_factory=Operators)


class PolicyWorker(Worker):
    """A process that answers calls."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._task: Task = cast("Any", self.app).task
        self._ours, self._theirs = socket.socketpair()
        self._log = console_log()

    def admitted(self) -> socket.socket:
        """The arbiter's end of the socket; the other one is the worker's alone from now on."""
        self._theirs.close()
        return self._ours

    def init_signals(self) -> None:
        """Leave the signals to the event loop, but for those that are the arbiter's business."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH):
            signal.signal(number, signal.SIG_IGN)

    def load_wsgi(self) -> None:
        """Nothing: the policy is built on the event loop, so that signs of life go on."""

    def run(self) -> None:
        """Serve until the arbiter, or a signal, says that it is enough."""
        self._ours.close()
        if self._task.office is not None:
            self._task.office.forget()
        leftovers = run(self._serve(), serving=True)
        if leftovers():
            ending.leave(leftovers)

    @property
    def _listeners(self) -> list[socket.socket]:
        """The sockets that all workers share, out of gunicorn's wrapping."""
        return [cast("Any", wrapped).sock for wrapped in self.sockets]

    async def _serve(self) -> Leftovers:
        beating = asyncio.create_task(self._beat())
        hide(beating)
        reader, writer = await asyncio.open_connection(sock=self._theirs)

        @asynccontextmanager
        async def occasions(reloads: Reloads, stop: Stop) -> AsyncIterator[None]:
            obeying = asyncio.create_task(Obeying(reloads, stop, reader, writer).obey())
            hide(obeying)
            try:
                yield
            finally:
                obeying.cancel()

        def answering(policy: Policy, url: str) -> None:
            files = tuple(map(str, policy.files))
            told = announcement(policy, url, self._task.operators)
            writer.write(framed(Serving(told, policy.config_hash, files)))

        around = Surroundings(
            self._log,
            self._task.build,
            occasions,
            answering,
            ending.leave_within,
            self._task.operators,
        )
        try:
            policy = await aside(lambda: self._task.build(self._task.content))
            leftovers = await serve(policy, self._listeners, around)
        except ConfigError as error:
            problems = tuple(map(str, error.problems))
            if self._task.may_wait:
                self._log.warning("a worker cannot serve yet", problems=problems)
                await asyncio.sleep(AGAIN)
                sys.exit(TRY_AGAIN)
            writer.write(framed(Refused(problems, isinstance(error, OpeningError))))
            await writer.drain()
            sys.exit(CANNOT_SERVE)
        finally:
            beating.cancel()
        writer.close()
        return leftovers

    async def _beat(self) -> None:
        """Give signs of life, as long as the event loop turns."""
        while True:
            self.notify()
            await asyncio.sleep(BEAT)
