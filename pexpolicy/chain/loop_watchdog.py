"""The watchdog of the event loop: it names the plugin and the line that block it.

Code that blocks in an ``async def`` stops every call of the process, and nothing in the process can
interrupt it. A thread asks the loop for a heartbeat again and again; if none comes, it reads the
stack of the loop's thread.

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
from contextlib import suppress
from types import FrameType
from typing import Self

from pexpolicy.chain.hook_tasks import SERVER, HookTasks, Names, thread_frames
from pexpolicy.errors import PACKAGE_ROOT, Log

HEARTBEAT_S = 0.05
"""Pause after a heartbeat."""
REPORT_AFTER_S = 0.1
"""Delay of a heartbeat that is reported."""
STILL_HELD_AFTER_S = 1.0
"""Time after that, at which a loop that is still held is reported before it is released."""
_IDLE = (os.path.dirname(asyncio.__file__), selectors.__file__)  # noqa: PTH120 - compared with names
"""The beginning of the file names of an event loop that waits."""


class Watchdog:
    """Reports plugins that hold the loop longer than ``REPORT_AFTER_S``. Enter it on that loop.

    ``modules`` maps the modules of plugin classes to plugin names.
    """

    def __init__(self, tasks: HookTasks, log: Log, modules: Mapping[str, str]) -> None:
        self._tasks = tasks
        self._log = log
        self._modules = modules
        self._stopped = threading.Event()
        self._loop_thread = threading.get_ident()

    def __enter__(self) -> Self:
        name, loop = "pexpolicy-watchdog", asyncio.get_running_loop()
        threading.Thread(target=self._watch, args=(loop,), name=name, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        released_at = time.monotonic()
        while not self._stopped.wait(HEARTBEAT_S):
            beat = threading.Event()
            with suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(beat.set)
            # Code that keeps the interpreter lock keeps this thread from running, too.
            is_late = time.monotonic() - released_at > HEARTBEAT_S + REPORT_AFTER_S
            if (is_late or not beat.wait(REPORT_AFTER_S)) and not self._stopped.is_set():
                self._report(beat, released_at)
            released_at = time.monotonic()

    def _report(self, beat: threading.Event, since: float) -> None:
        """Read the stack of the loop, wait until it is released, and log both."""
        names, line = self._owner()
        if not line:
            return  # no code holds it: the machine is busy
        if not beat.wait(STILL_HELD_AFTER_S):
            what = "holds the event loop, and has not released it yet"
            self._log_hold(names, line, since, what)
            beat.wait()
        self._log_hold(names, line, since, "held the event loop")

    def _owner(self) -> tuple[Names, str]:
        """Return the owner of the code that the loop's thread runs, and the line.

        It is the hook that runs, or the plugin whose module is on the stack. No line: none runs.
        """
        frames = [frame for frame, _ in thread_frames([self._loop_thread])][::-1]
        running = self._tasks.running
        if not frames or (running == SERVER and _is_in(_IDLE, frames[0])):
            return SERVER, ""
        if running == SERVER:
            owners = (self._modules.get(str(one.f_globals.get("__name__"))) for one in frames)
            running = next(((owner, "") for owner in owners if owner), SERVER)
        elif _is_in(PACKAGE_ROOT, frames[0]):
            running = SERVER  # such as a check of the answer of the hook
        if running != SERVER:
            ours = (PACKAGE_ROOT, *_IDLE)
            frames = [frame for frame in frames if not _is_in(ours, frame)] or frames
        return running, f"{frames[0].f_code.co_filename}:{frames[0].f_lineno}"

    def _log_hold(self, names: Names, line: str, since: float, what: str) -> None:
        (plugin, hook), ms = names, round((time.monotonic() - since) * 1000)
        self._log.warning(f"{plugin} {what}", plugin=plugin, hook=hook, ms=ms, line=line)


def _is_in(beginnings: str | tuple[str, ...], frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(beginnings)
