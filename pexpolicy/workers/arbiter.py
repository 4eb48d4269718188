"""gunicorn's arbiter, with reloads that all workers make together."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import cast

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from pexpolicy import notify
from pexpolicy.admin.listener import Operators
from pexpolicy.ending import STOPPING
from pexpolicy.logs import console_log
from pexpolicy.metrics.board import Board
from pexpolicy.reload.reloading import Build
from pexpolicy.reload.verdict import Verdict
from pexpolicy.workers.logger import ArbiterLog
from pexpolicy.workers.messages import Refused, Report, Serving
from pexpolicy.workers.office import Office
from pexpolicy.workers.rounds import Rounds
from pexpolicy.workers.worker import PolicyWorker, Task

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - gunicorn makes a file without a name there
HUNG = 30
"""Seconds without a sign of life until a worker is replaced."""
LONGEST_DRAIN = 60.0
"""Seconds; no worker drains for longer."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the arbiter starts with.

    ``content`` is what the configuration file held at ``read_at``, in seconds since the epoch.
    ``say`` is for what an operator wants to read.
    """

    config: Path
    content: bytes
    read_at: float
    workers: int
    listeners: list[socket.socket]
    build: Build
    say: Callable[[str], None]
    operators: Operators = field(default_factory=Operators)


def run_workers(plan: Plan) -> Refused | None:
    """Serve until a signal ends it; gives why that was impossible, or ``None``.

    Raises ``SystemExit`` with another code than 0 where gunicorn itself cannot go on.
    """
    arbiter, number = PolicyArbiter(plan), os.getpid()
    try:
        arbiter.run()
    except SystemExit as ended:
        # Workers come out here too, and have nothing more to do.
        if os.getpid() != number or (ended.code and arbiter.refusal is None):
            raise
    return arbiter.refusal


class _Application(BaseApplication):
    """What gunicorn calls an application: its settings, and the task of each worker."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.task: Task
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn what differs from its defaults."""
        settings = {
            "bind": [f"fd://{listener.detach()}" for listener in self._plan.listeners],
            "workers": self._plan.workers,
            "worker_class": PolicyWorker,
            "timeout": HUNG,
            "graceful_timeout": int(LONGEST_DRAIN + STOPPING + 1),
            "logger_class": ArbiterLog,
            "loglevel": "warning",
            "control_socket_disable": True,
            # A container may have no folder for temporary files that can be written to.
            "worker_tmp_dir": str(SHARED_MEMORY) if os.access(SHARED_MEMORY, os.W_OK) else None,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)


class PolicyArbiter(Arbiter):
    """Starts the workers, replaces those that die or hang, and leads their reloads.

    ``refusal`` says why no worker could serve, once ``run`` has ended for that reason.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._log = console_log()
        # systemd is told by us, once the workers serve: gunicorn would tell it too early.
        self._notified = os.environ.pop("NOTIFY_SOCKET", "")
        self.refusal: Refused | None = None
        self._serving: set[int] = set()
        self._slots: dict[int, int] = {}
        self._announced = False
        self._ending = False
        self._office = Office(plan.config, self._log, self._hear, self._lose, self._reload)
        self._rounds = Rounds(
            plan.config,
            plan.content,
            plan.read_at,
            self._log,
            workers=lambda: self._serving,
            send=self._office.send,
        )
        self._application = _Application(plan)
        super().__init__(self._application)

    def signal(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal, and wake up."""
        super().signal(sig, frame)
        self._office.ring()
        if self._ending and sig == signal.SIGTERM:
            # Nobody looks at it in the queue any more: workers skip the delay at their second one.
            self.kill_workers(sig)

    def signal_chld(self, sig: int, frame: FrameType | None) -> None:
        """Note that a worker has ended, and wake up."""
        super().signal_chld(sig, frame)
        self._office.ring()

    def wait_for_signals(self, timeout: float | None = 1.0) -> list[int]:
        """The signals that have come; meanwhile, everything else that comes is seen to."""
        if self.SIG_QUEUE.empty():
            self._office.wait(min(timeout or 1.0, 0.5))
        self._rounds.look(self._say)
        notify.notify(notify.ALIVE, self._notified)
        return super().wait_for_signals(timeout=0.0)

    def spawn_worker(self) -> int:
        """Start a worker, and listen to it."""
        operators = self._plan.operators
        slot = operators.board.reserve()
        # Without a place on the board a worker is not counted with the others, and answers calls.
        place = replace(operators, board=Board()) if slot is None else replace(operators, slot=slot)
        self._application.task = Task(
            self._plan.build,
            self._rounds.content,
            self._office,
            may_wait=self._announced,
            operators=place,
        )
        number = super().spawn_worker()
        if slot is not None:
            self._slots[number] = slot
        self._office.admit(number, cast("PolicyWorker", self.WORKERS[number]).admitted())
        return number

    def reap_workers(self) -> None:
        """Note which workers have ended, behind the last that they had to say."""
        self._office.wait(0.0)
        while not self._reaped():
            pass
        for number in self._slots.keys() - self.WORKERS.keys():
            self._plan.operators.board.release(self._slots.pop(number), number)

    def _reaped(self) -> bool:
        """Note which workers have ended; whether those were all.

        gunicorn breaks off at one whose exit code says that no worker can serve. That ends the
        server at the start only. Once they serve, such a code is that of a plugin, and the worker
        is replaced like any other. When the server ends already, two workers fail for one reason,
        and the second must not stop the stopping.
        """
        try:
            super().reap_workers()
        except HaltServer:
            if not self._ending and not self._announced:
                raise
            return False
        return True

    def handle_hup(self) -> None:
        """Reload."""
        self._reload(lambda _: None)

    def kill_workers(self, sig: int) -> None:
        """Send a signal to all workers. A quick end is SIGINT to them: at SIGQUIT, which gunicorn
        would send, they would leave the calls under way.
        """
        super().kill_workers(signal.SIGINT if sig == signal.SIGQUIT else sig)

    def handle_usr2(self) -> None:
        """Nothing: the server does not replace itself."""

    def stop(self, graceful: bool = True) -> None:  # noqa: FBT001, FBT002 - gunicorn's signature
        """End the workers."""
        self._ending = True
        notify.notify(notify.STOPPING, self._notified)
        self._office.close()
        super().stop(graceful)

    def _reload(self, told: Callable[[Verdict], None]) -> None:
        notify.notify(notify.reloading(), self._notified)

        def tell(verdict: Verdict) -> None:
            self._say(verdict)
            told(verdict)

        self._rounds.want(tell)

    def _say(self, verdict: Verdict) -> None:
        notify.notify(notify.READY, self._notified)
        if verdict.done:
            for line in (str(verdict), *(f"warning: {note}" for note in verdict.notes)):
                self._plan.say(line)

    def _hear(self, worker: int, report: Report) -> None:
        if isinstance(report, Serving):
            self._serving.add(worker)
            self._announce(report)
        elif isinstance(report, Refused) and not self._announced:
            self.refusal = report
        self._rounds.hear(worker, report)

    def _lose(self, worker: int) -> None:
        self._serving.discard(worker)
        self._rounds.lose(worker)

    def _announce(self, report: Serving) -> None:
        if self._announced or len(self._serving) < self._plan.workers:
            return
        self._announced = True
        self._plan.say(f"{report.announcement}; {self._plan.workers} workers")
        notify.notify(notify.READY, self._notified)
