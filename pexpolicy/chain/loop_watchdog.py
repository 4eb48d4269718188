"""Watching the event loop: who holds it, and on which line.

Code that blocks in an ``async def`` stops every call of the process, and nothing in the process can
stop it. What can be done is to name it: a thread sees that the loop no longer beats, and looks
where it stands.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Self

from pexpolicy.errors import PACKAGE_ROOT

if TYPE_CHECKING:
    from pexpolicy.chain.hook_tasks import HookTasks
    from pexpolicy.errors import Log

BEAT = 0.05
"""Seconds between two signs of life."""
TOO_LONG = 0.1
"""Seconds without one that are reported."""
STILL_HELD = 1.0
"""Seconds after which a loop that is still held is reported, rather than when it is let go."""


class Watchdog:
    """Reports plugins that hold the loop for more than ``TOO_LONG``. Enter it on that loop."""

    def __init__(self, tasks: HookTasks, log: Log) -> None:
        self._tasks = tasks
        self._log = log
        self._stopped = threading.Event()
        self._beaten = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._loop_thread = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="pexpolicy-watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._beat()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._stopped.set()
        self._thread.join()

    def _beat(self) -> None:
        self._beaten = time.monotonic()
        self._timer = self._loop.call_later(BEAT, self._beat)

    def _watch(self) -> None:
        while not self._stopped.wait(BEAT):
            beaten = self._beaten
            if time.monotonic() - beaten > BEAT + TOO_LONG:
                self._report(beaten)

    def _report(self, beaten: float) -> None:
        """See where the loop stands, wait until it is let go, and say so."""
        running, line = self._tasks.running, self._line()
        held = 0.0
        said = False
        while self._beaten == beaten and not self._stopped.wait(BEAT / 5):
            held = time.monotonic() - beaten
            if held > STILL_HELD and not said:
                said = True
                self._say(running, line, held, "holds the event loop, and has not let it go yet")
        held = max(held, self._beaten - beaten)
        self._say(running, line, held, "held the event loop")

    def _say(self, running: tuple[str, str], line: str, held: float, what: str) -> None:
        plugin, hook = running
        self._log.warning(
            f"{plugin} {what}", plugin=plugin, hook=hook, ms=round(held * 1000), line=line
        )

    def _line(self) -> str:
        """The innermost line that belongs neither to the server nor to the loop."""
        frame: FrameType | None = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - documented
        while frame is not None:
            name = frame.f_code.co_filename
            if not name.startswith(PACKAGE_ROOT) and "asyncio" not in name:
                return f"{name}:{frame.f_lineno}"
            frame = frame.f_back
        return "unknown"
