"""The watchdog of the event loop: it names the plugin and the line that block it.

Code that blocks in an ``async def`` stops every call of the process, and nothing in the process can
interrupt it. It can be named: a thread notices that the heartbeat of the loop is missing, and
reads the current line of the loop's thread.
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

LOOP_BEAT_S = 0.05
REPORT_AFTER_S = 0.1
"""Delay of a heartbeat that is reported."""
STILL_HELD_AFTER_S = 1.0
"""Delay after which a loop that is still held is reported before it is released."""


class Watchdog:
    """Reports plugins that hold the loop longer than ``REPORT_AFTER_S``. Enter it on that loop."""

    def __init__(self, tasks: HookTasks, log: Log) -> None:
        self._tasks = tasks
        self._log = log
        self._stopped = threading.Event()
        self._last_beat = time.monotonic()
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
        self._last_beat = time.monotonic()
        self._timer = self._loop.call_later(LOOP_BEAT_S, self._beat)

    def _watch(self) -> None:
        while not self._stopped.wait(LOOP_BEAT_S):
            last_beat = self._last_beat
            if time.monotonic() - last_beat > LOOP_BEAT_S + REPORT_AFTER_S:
                self._report(last_beat)

    def _report(self, last_beat: float) -> None:
        """Read the current line of the loop, wait until it is released, and log both."""
        running, line = self._tasks.running, self._line()
        held = 0.0
        is_logged = False
        while self._last_beat == last_beat and not self._stopped.wait(LOOP_BEAT_S / 5):
            held = time.monotonic() - last_beat
            if held > STILL_HELD_AFTER_S and not is_logged:
                is_logged = True
                self._log_hold(
                    running, line, held, "holds the event loop, and has not released it yet"
                )
        held = max(held, self._last_beat - last_beat)
        self._log_hold(running, line, held, "held the event loop")

    def _log_hold(self, running: tuple[str, str], line: str, held: float, what: str) -> None:
        plugin, hook = running
        self._log.warning(
            f"{plugin} {what}", plugin=plugin, hook=hook, ms=round(held * 1000), line=line
        )

    def _line(self) -> str:
        """Return the innermost line that belongs neither to the server nor to asyncio."""
        frame: FrameType | None = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - documented
        while frame is not None:
            name = frame.f_code.co_filename
            if not name.startswith(PACKAGE_ROOT) and "asyncio" not in name:
                return f"{name}:{frame.f_lineno}"
            frame = frame.f_back
        return "unknown"
