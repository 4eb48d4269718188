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

from pexpolicy.chain.hook_tasks import (
    SERVER,
    HookTasks,
    Names,
    frames_of,
    is_at_prompt,
)
from pexpolicy.errors import PACKAGE_ROOT, Log

HEARTBEAT_S = 0.05
REPORT_AFTER_S = 0.1
"""Delay of a heartbeat that is reported."""
STILL_HELD_AFTER_S = 1.0
"""Delay after which a loop that is still held is reported before it is released."""
OUTSIDE = ("a thread or another process", "")
"""The event loop ran no code, and could not go on."""
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
        """Read the stack of the loop, wait until it is released, and log both.

        A prompt of a debugger is left alone, and time limits are suspended.
        """
        at_prompt = is_at_prompt(self._loop_thread)
        self._tasks.has_debugger = self._tasks.has_debugger or at_prompt
        names, line = self._owner()
        is_logged = at_prompt
        while self._beat_at == beat_at and not self._stopped.wait(HEARTBEAT_S / 5):
            held = time.monotonic() - beat_at
            if held > STILL_HELD_AFTER_S and not is_logged:
                is_logged = True
                what = "holds the event loop, and has not released it yet"
                self._log_hold(names, line, held, what)
        if not at_prompt:
            self._log_hold(names, line, time.monotonic() - beat_at, "held the event loop")

    def _owner(self) -> tuple[Names, str]:
        """Return the owner of the code that the loop's thread runs, and the line.

        It is the hook that runs, or the plugin whose module is on the stack.
        """
        running, frames = self._tasks.running, list(frames_of(self._loop_thread))
        files = [frame.f_code.co_filename for frame in frames]
        if running == SERVER:
            if not frames or files[0].startswith(_IDLE):
                return OUTSIDE, ""
            modules = (str(frame.f_globals.get("__name__", "")) for frame in frames)
            owner = next((self._modules[name] for name in modules if name in self._modules), "")
            running = (owner, "") if owner else SERVER
        elif files[0].startswith(PACKAGE_ROOT):
            running = SERVER  # such as a check of the answer of the hook
        if running == SERVER:
            return SERVER, _place(frames[0])
        others = (frame for frame, file in zip(frames, files, strict=True) if not _is_ours(file))
        return running, next(map(_place, others), "unknown")

    def _log_hold(self, names: Names, line: str, held: float, what: str) -> None:
        plugin, hook = names
        since = datetime.fromtimestamp(time.time() - held, UTC).isoformat(timespec="milliseconds")
        fields = {"hook": hook, "ms": round(held * 1000), "since": since}
        fields |= {"line": line} if line else {}
        self._log.warning(f"{plugin} {what}", plugin=plugin, **fields)


def _is_ours(file: str) -> bool:
    return file.startswith((PACKAGE_ROOT, *_IDLE))


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
