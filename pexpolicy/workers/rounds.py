"""The reloads of all workers, one after the other: who wanted them, and what came of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pexpolicy.faults import Log
from pexpolicy.reload.verdict import Verdict
from pexpolicy.reload.watching import PAUSE, Changes
from pexpolicy.watched import Look, look_at
from pexpolicy.workers.accord import Accord
from pexpolicy.workers.messages import Order, Report, Serving

Told = Callable[[Verdict], None]
"""Takes the verdict of a reload."""


class Rounds:
    """Leads the reloads. ``workers`` gives those that serve, ``send`` reaches one of them.

    ``content`` is what the configuration file held when the policy in force was made, ``read_at``
    when it was read, in seconds since the epoch.
    """

    def __init__(
        self,
        config: Path,
        content: bytes,
        read_at: float,
        log: Log,
        *,
        workers: Callable[[], Iterable[int]],
        send: Callable[[int, Order], None],
    ) -> None:
        self.content = content
        self._config = config
        self._read_at = read_at
        self._log = log
        self._workers = workers
        self._send = send
        self._in_force = ""
        self._came_late: dict[int, str] = {}
        """Workers that began to serve during a reload, and the hash of what they serve."""
        self._accord: Accord | None = None
        self._told: list[Told] = []
        self._next: list[Told] = []
        self._before: Look = {}
        self._changes = Changes()
        self._look_again = 0.0

    def want(self, told: Told) -> None:
        """Reload, once no other reload is under way."""
        self._next.append(told)
        if self._accord is None:
            self._begin()

    def _begin(self) -> None:
        self._told, self._next = self._next, []
        self._read_at, self._before = time.time(), look_at(self._changes.files)
        try:
            content = self._config.read_bytes()
        except OSError as error:
            self._end(Verdict(self._in_force, problems=(f"cannot be read: {error.strerror}",)))
            return
        self._accord = Accord(self._workers(), content, self._in_force, self._send)
        self._conclude()

    def hear(self, worker: int, report: Report) -> None:
        """Take the report of one worker."""
        if isinstance(report, Serving) and not self._in_force:
            self._in_force = report.config_hash
            self._watch(report.files)
        elif isinstance(report, Serving):
            self._came_late[worker] = report.config_hash
            self._go_on()
        if self._accord is not None:
            self._accord.hear(worker, report)
            self._conclude()

    def _go_on(self) -> None:
        """Reload once more, where that was wanted or a worker began with what was in force before.

        While a reload is under way nobody knows yet what will be in force behind it.
        """
        if self._accord is not None:
            return
        if any(found != self._in_force for found in self._came_late.values()):
            self._next.append(lambda _: None)
        self._came_late.clear()
        if self._next:
            self._begin()

    def lose(self, worker: int) -> None:
        """Go on without a worker."""
        self._came_late.pop(worker, None)
        if self._accord is not None:
            self._accord.lose(worker)
            self._conclude()

    def _conclude(self) -> None:
        accord = self._accord
        if accord is None or accord.verdict is None:
            return
        self._accord = None
        if accord.verdict.done:
            self.content, self._in_force = accord.content, accord.verdict.config_hash
            self._watch(accord.files)
        else:
            self._watch({*map(str, self._changes.files), *accord.suspects})
        self._end(accord.verdict)

    def _end(self, verdict: Verdict) -> None:
        if not verdict.done:
            self._log.warning("the configuration was not reloaded", problems=verdict.problems)
        for told in self._told:
            told(verdict)
        self._go_on()

    def _watch(self, files: Iterable[str]) -> None:
        self._changes.expect(look_at(map(Path, files)), self._before, self._read_at)

    def look(self, told: Told) -> None:
        """Look at the files, twice a second at most; a change is a reason to reload."""
        if time.monotonic() < self._look_again:
            return
        self._look_again = time.monotonic() + PAUSE
        if self._accord is None and self._changes.seen(look_at(self._changes.files)):
            self.want(told)
