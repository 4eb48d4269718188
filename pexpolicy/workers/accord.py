"""One reload of all workers: each prepares it, then all put it in force, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pexpolicy.reload.verdict import Verdict
from pexpolicy.workers.messages import (
    Abandon,
    Commit,
    Committed,
    Order,
    Prepare,
    Prepared,
    Refused,
    Report,
)


class Accord:
    """Begins when it is built; ``verdict`` is there at the end. Workers are known by number."""

    def __init__(
        self,
        workers: Iterable[int],
        content: bytes,
        in_force: str,
        send: Callable[[int, Order], None],
    ) -> None:
        self.content = content
        self.verdict: Verdict | None = None
        self.files: tuple[str, ...] = ()
        self.suspects: set[str] = set()
        """Files that were read by workers who refused it."""
        self._in_force = in_force
        self._send = send
        self._waiting = set(workers)
        self._prepared: dict[int, str] = {}
        self._problems: dict[str, None] = {}
        self._committing = False
        self._done: Verdict | None = None
        for worker in tuple(self._waiting):
            send(worker, Prepare(content))
        self._go_on()

    def hear(self, worker: int, report: Report) -> None:
        """Take the report of one worker."""
        if worker not in self._waiting:
            return
        match report:
            case Prepared():
                self._prepared[worker] = report.config_hash
            case Refused():
                self._problems |= dict.fromkeys(report.problems)
                self.suspects |= set(report.files)
            case Committed():
                self._committed(report)
            case _:
                return
        self._waiting.discard(worker)
        self._go_on()

    def lose(self, worker: int) -> None:
        """Go on without a worker that has died; the one after it begins with what is in force."""
        self._waiting.discard(worker)
        self._prepared.pop(worker, None)
        if self.verdict is None:
            self._go_on()

    def _committed(self, report: Committed) -> None:
        self._in_force, self.files = report.verdict.config_hash, report.files
        self._done = report.verdict

    def _go_on(self) -> None:
        if self._waiting:
            return
        if self._committing:
            self.verdict = self._done or self._refused("every worker died of it")
        elif self._problems:
            self._abandon(*self._problems)
        elif not self._prepared:
            self._abandon("no worker is there to serve it")
        elif len(set(self._prepared.values())) > 1:
            self._abandon("a file changed while the workers read it")
        else:
            self._committing = True
            self._waiting = set(self._prepared)
            for worker in self._prepared:
                self._send(worker, Commit())

    def _abandon(self, *problems: str) -> None:
        for worker in self._prepared:
            self._send(worker, Abandon())
        self.verdict = self._refused(*problems)

    def _refused(self, *problems: str) -> Verdict:
        return Verdict(self._in_force, problems=problems)
