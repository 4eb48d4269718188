"""The journal: lines in their order to where they belong, or to where they wait meanwhile.

As long as lines wait, new ones wait behind them: the order of the chain is the order of the file.
Everything that may fail is tried again by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pexpolicy.audit.backlog import Backlog, WriteResult
from pexpolicy.audit.checkpoints import CHECKPOINT, END, unsigned_end
from pexpolicy.audit.hash_chain import HashChain
from pexpolicy.audit.interfaces import Checkpoints, Rotate, Target
from pexpolicy.audit.state import WATERMARKS, AlertWriter, AuditState

LOOK = 1.0
"""Seconds between two looks at the path, the disk and the age of the file."""
FLUSH = 1.0
"""Seconds for what waits, when the audit is closed."""
ATTEMPTS = 20
"""How often it is tried in that time."""
TOO_SLOW = "its disk does not answer in time"
"""Why lines are lost though no write has failed."""
GONE = (
    "the file of the audit was deleted, and another one is begun: "
    "of the old one it holds no more than the last lines of this server"
)


class Journal:
    """Writes the lines of one writer; used by one thread."""

    def __init__(
        self,
        target: Target,
        seal: HashChain,
        backlog: Backlog,
        *,
        alarms: AlertWriter | None = None,
        rotate: Rotate | None = None,
        checkpoints: Checkpoints | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state: AuditState = backlog.state
        self._target = target
        self._seal = seal
        self._backlog = backlog
        self._alarms = alarms or AlertWriter()
        self._rotate = rotate
        self._checkpoints = checkpoints
        self.says_end = False
        """Whether the last line says that none follows."""
        self._clock = clock
        self._waiting = False
        """True while lines wait, or would have to."""
        self._astray = False
        """True while the path leads to nothing that can be opened."""
        self._reopens = False
        self._passed = 0
        self._look_at = clock() + LOOK
        self._retry_at = 0.0
        self._measure()

    def record(self, *bodies: bytes) -> WriteResult:
        """Take lines, JSON objects; several are written in one piece, or wait together. Gives the
        least of what became of them.
        """
        now = self._clock()
        if now >= self._look_at:
            self._look(now)
        if self._waiting and not self._bring_home(now):
            return self._wait(bodies)
        lines, position = self._seal.lines(bodies)
        try:
            self._target.write(lines)
        except OSError as error:
            self._hold(error, now)
            return self._wait(bodies)
        self._seal.advance_to(position)
        self.state.records += len(bodies)
        return WriteResult.WRITTEN

    def lose(self, count: int, why: str = TOO_SLOW) -> None:
        """Count lines that were given up before they came here; the next line says so."""
        if count:
            self._seal.lost += count
            self.state.lost += count
            self.fail(why)

    def fail(self, error: str) -> None:
        """Note that lines are lost, and why. Whoever waits for a write that does not come back may
        call it beside; a look behind that write finds all well again.
        """
        if self.state.status != "failed":
            self.state.error = self.state.error or error
            self._degrade()
            self.state.status = "failed"
            self._alarms.say(f"the audit loses lines: {self.state.error}")

    def fault(self, error: Exception) -> None:
        """Say that writing failed in a way that nobody thought of."""
        self._alarms.say(f"a fault in writing the audit: {type(error).__name__}: {error}")

    def reopen(self) -> None:
        """Open the file anew at the next line or ``tick``. May be called by any thread."""
        self._reopens = True
        self._look_at = 0.0

    def tick(self) -> float:
        """Do what is due without a line; gives the seconds until it should be called again."""
        now = self._clock()
        if now >= self._look_at:
            self._look(now)
        if self._waiting and not self._bring_home(now):
            return self._target.retry
        return max(self._look_at - now, 0.0)

    def sync(self) -> None:
        """Wait until the lines that were written are on the disk; raises ``OSError``.

        After a failure the pages count as lost: a second attempt may succeed without having written
        them. The file is put aside, and another one is begun.
        """
        try:
            self._target.sync()
            self._backlog.sync()
        except OSError as error:
            self._alarms.say(f"the audit cannot be brought to the disk: {error.strerror}")
            self._put_aside(self._clock(), anyway=True)
            raise
        self.state.synced_at = time.time()

    def close(self) -> None:
        """Write what waits, as far as possible, and close everything."""
        for _ in range(ATTEMPTS):
            if not self._waiting or self._bring_home(self._retry_at):
                break
            time.sleep(FLUSH / ATTEMPTS)
        if not self._waiting and self._seal.seq:
            self._conclude(self._clock())
        if self._backlog.held:
            text = f"the audit ends with {self._backlog.held} lines that could not be written"
            self._alarms.say(text)
        self._backlog.close()
        self._target.close(FLUSH)

    def _hold(self, error: OSError, now: float) -> None:
        """From now on lines wait."""
        self._waiting = True
        self._retry_at = now + self._target.retry
        if isinstance(error, BlockingIOError):
            # For a moment only, perhaps: what has not passed at the next look is worth an alarm.
            self.state.error = "its reader has stalled"
        else:
            self.state.error = error.strerror or type(error).__name__
            self._degrade()

    def _degrade(self) -> None:
        if self.state.status == "healthy":
            self.state.status = "degraded"
            self._alarms.say(f"the audit cannot be written: {self.state.error}")

    def _wait(self, bodies: Sequence[bytes]) -> WriteResult:
        """Let lines wait."""
        least = min(self._backlog.add(body, self._seal) for body in bodies)
        if least is WriteResult.LOST:
            self.fail(self.state.error)
        return least

    def _bring_home(self, now: float) -> bool:
        """Write lines that wait; true when none is left."""
        if now < self._retry_at or self._astray:
            return False
        try:
            if not self._backlog.bring_home(self._target.write, self._seal):
                return False
        except OSError as error:
            self._hold(error, now)
            return False
        self._waiting = False
        if self.state.status == "healthy":
            self.state.error = ""
        return True

    def _look(self, now: float) -> None:
        """See whether the path still leads to the file, and how much is left of the disk."""
        self._look_at = now + LOOK
        reopens, self._reopens = self._reopens, False
        if reopens or self._astray or not self._target.is_current():
            self._renew(now)
        else:
            self._put_aside(now, anyway=False)
        if self._waiting:
            self._degrade()
        elif self.state.status != "healthy":
            self._recovered()
        signs = self._checkpoints
        if signs is not None and not self._waiting and signs.is_due(self._seal, now):
            self._mark(signs.line(self._seal, now), now)
        self._measure()
        self._alarms.repeat()

    def _recovered(self) -> None:
        self.state.status, self.state.error = "healthy", ""
        self._alarms.say(f"the audit is written again; lines lost so far: {self.state.lost}")

    def _renew(self, now: float) -> None:
        try:
            gone = self._target.renew()
        except OSError as error:
            self._astray = True
            self._hold(error, now)
            return
        self._astray = False
        if gone:
            self._alarms.say(GONE)
        self._seal.introduce()
        self.state.rotations += 1

    def _put_aside(self, now: float, *, anyway: bool) -> None:
        if self._rotate is None:
            return
        try:
            if self._rotate(anyway):
                self._renew(now)
        except OSError as error:
            self._alarms.say(f"the audit cannot be rotated: {error.strerror}")

    def _conclude(self, now: float) -> None:
        signs = self._checkpoints
        if signs is not None:
            self._mark(signs.line(self._seal, now, END if self.says_end else CHECKPOINT), now)
        elif self.says_end:
            self._mark(unsigned_end(), now)

    def _mark(self, body: bytes, now: float) -> None:
        """Write a checkpoint or the end; a signed one is said, too, to be an anchor elsewhere."""
        line = self._seal.line(body)
        try:
            self._target.write(line)
        except OSError as error:
            self._hold(error, now)
        else:
            self._seal.advance()
            if self._checkpoints is not None:
                self._alarms.say(line.decode().rstrip())

    def _measure(self) -> None:
        if (space := self._target.space()) is None:
            return
        self.state.free_bytes, self.state.free_percent = space
        passed = sum(space[1] < mark for mark in WATERMARKS)
        if passed > self._passed:
            self._alarms.say(f"the disk of the audit has {space[1]} % left")
        self._passed = passed
