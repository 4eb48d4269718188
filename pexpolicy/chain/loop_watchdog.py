"""The watchdog of the event loop: it names the plugin and the line that block it.

Code that blocks in an ``async def`` stops every call of the process, and nothing in the process can
interrupt it. A thread notices that the heartbeat of the loop is missing, and reads the stack of the
loop's thread.

A call into C code that keeps the interpreter lock, such as ``re`` with a slow pattern, stops this
thread too; it is named afterwards where its hook still runs. ``faulthandler`` could print the
stacks before, but it reads frames that may be changing then, and can crash the server.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from types import FrameType
from typing import Self

from pexpolicy.chain.hook_tasks import SERVER, HookTasks, Names, thread_frames
from pexpolicy.errors import PACKAGE_ROOT, Log

HEARTBEAT_S = 0.05
REPORT_AFTER_S = 0.1
"""Delay of a heartbeat that is reported."""
STILL_HELD_AFTER_S = 1.0
"""Delay after which a loop that is still held is reported before it is released."""
_IDLE = (os.path.dirname(asyncio.__file__), selectors.__file__)  # noqa: PTH120 - compared with names
"""The beginning of the file names of an event loop that waits."""


class Watchdog:
    """Reports plugins that hold the loop longer than ``REPORT_AFTER_S``. Enter it on that loop.

    ``modules`` maps the modules of plugin classes to plugin names.
    """

    def __init__(
        self, tasks: HookTasks, log: Log, modules: Mapping[str, str] | None = None
    ) -> None:
        self._tasks = tasks
        self._log = log
        self._modules = modules or {}
        self._stopped = threading.Event()
        self._beat_at = time.monotonic()
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
        self._beat_at = time.monotonic()
        self._timer = self._loop.call_later(HEARTBEAT_S, self._beat)

    def _watch(self) -> None:
        while not self._stopped.wait(HEARTBEAT_S):
            beat_at = self._beat_at
            if time.monotonic() - beat_at > HEARTBEAT_S + REPORT_AFTER_S:
                self._report(beat_at)

    def _report(self, beat_at: float) -> None:
        """Read the stack of the loop, wait until it is released, and log both."""
        names, line = self._owner()
        if not line:
            return  # no code holds it: the machine is busy
        is_logged = False
        while self._beat_at == beat_at and not self._stopped.wait(HEARTBEAT_S / 5):
            held = time.monotonic() - beat_at
            if held > STILL_HELD_AFTER_S and not is_logged:
                is_logged = True
                what = "holds the event loop, and has not released it yet"
                self._log_hold(names, line, held, what)
        self._log_hold(names, line, time.monotonic() - beat_at, "held the event loop")

    def _owner(self) -> tuple[Names, str]:
        """Return the owner of the code that the loop's thread runs, and the line.

        It is the hook that runs, or the plugin whose module is on the stack. No line: none runs.
        """
        frames = [frame for frame, _ in thread_frames([self._loop_thread])][::-1]
        running = self._tasks.running
        if not frames or (running == SERVER and _is_in(_IDLE, frames[0])):
            return SERVER, ""
        if running == SERVER:
            modules = (str(frame.f_globals.get("__name__", "")) for frame in frames)
            owner = next((self._modules[name] for name in modules if name in self._modules), "")
            running = (owner, "") if owner else SERVER
        elif _is_in(PACKAGE_ROOT, frames[0]):
            running = SERVER  # such as a check of the answer of the hook
        if running != SERVER:
            ours = (PACKAGE_ROOT, *_IDLE)
            frames = [frame for frame in frames if not _is_in(ours, frame)] or frames
        return running, f"{frames[0].f_code.co_filename}:{frames[0].f_lineno}"

    def _log_hold(self, names: Names, line: str, held: float, what: str) -> None:
        plugin, hook = names
        since = datetime.fromtimestamp(time.time() - held, UTC).isoformat(timespec="milliseconds")
        ms = round(held * 1000)
        self._log.warning(
            f"{plugin} {what}", plugin=plugin, hook=hook, ms=ms, since=since, line=line
        )


def _is_in(beginnings: str | tuple[str, ...], frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(beginnings)
