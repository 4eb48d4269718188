"""The watchdog of the event loop: it names the plugin and the line that block it.

Code that blocks in an ``async def`` stops every call of the process, and nothing in the process can
interrupt it. A thread notices that the heartbeat of the loop is missing, and reads the stack of the
loop's thread.

A call into C code that keeps the interpreter lock, such as ``re`` with a slow pattern, stops all
threads, this one included. Afterwards the thread that used the processor meanwhile is named.
``faulthandler`` could print the stacks before, without the lock, but it reads frames that may be
changing then, and can crash the server.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NamedTuple, Self

from pexpolicy.chain.hook_tasks import (
    SERVER,
    HookTasks,
    Names,
    PluginThreadPool,
    ThreadCall,
    frames_of,
    is_at_prompt,
)
from pexpolicy.errors import PACKAGE_ROOT, Log

HEARTBEAT_S = 0.05
REPORT_AFTER_S = 0.1
"""Delay of a heartbeat that is reported."""
STILL_HELD_AFTER_S = 1.0
"""Delay after which a loop that is still held is reported before it is released."""
MIN_USED_S = 0.05
"""Processor time below which no thread can have kept the interpreter."""
UNKNOWN = ("unknown", "")
_TICKS = os.sysconf("SC_CLK_TCK")
_CALLERS = os.path.join(PACKAGE_ROOT, "chain") + os.sep  # noqa: PTH118 - compared with names
"""The beginning of the file names of the code that calls hooks."""


class _Beat(NamedTuple):
    """A heartbeat of the loop: its time, and the processor time of the loop's thread."""

    at: float
    cpu: float


class Watchdog:
    """Reports plugins that hold the loop longer than ``REPORT_AFTER_S``. Enter it on that loop.

    ``modules`` maps the modules of plugin classes to plugin names, ``pools`` plugin names to their
    threads.
    """

    def __init__(
        self,
        tasks: HookTasks,
        log: Log,
        modules: Mapping[str, str] | None = None,
        pools: Mapping[str, PluginThreadPool] | None = None,
    ) -> None:
        self._tasks = tasks
        self._log = log
        modules = modules or {}
        packages = Counter(module.partition(".")[0] for module in modules)
        owners = ((module.partition(".")[0], name) for module, name in modules.items())
        self._owners = {top: name for top, name in owners if packages[top] == 1} | dict(modules)
        self._pools = pools or {}
        self._stopped = threading.Event()
        self._beats = (_Beat(time.monotonic(), 0.0),) * 2
        self._samples: dict[ThreadCall, float] = {}
        """Processor time of the threads in running calls, at the last look."""
        self._process_cpu = time.process_time()
        """Processor time of the process at the last look."""
        self._timer: asyncio.TimerHandle | None = None
        self._loop_thread = threading.get_ident()
        self._loop_native_id = threading.get_native_id()
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
        self._beats = self._beats[1], _Beat(time.monotonic(), time.thread_time())
        self._timer = self._loop.call_later(HEARTBEAT_S, self._beat)

    def _watch(self) -> None:
        woke = time.monotonic()
        while not self._stopped.wait(HEARTBEAT_S):
            slept, woke = woke, time.monotonic()
            last_beat = self._beats[1].at
            if woke - slept > HEARTBEAT_S + REPORT_AFTER_S:
                self._report_interpreter(slept + HEARTBEAT_S, woke - slept - HEARTBEAT_S)
            elif woke - last_beat > HEARTBEAT_S + REPORT_AFTER_S:
                self._report_loop(last_beat)
            else:
                self._samples = {call: _processor_time(call.native_id) for _, call in self._calls()}
                self._process_cpu = time.process_time()
                continue
            woke, self._process_cpu = time.monotonic(), time.process_time()

    def _calls(self) -> Iterator[tuple[str, ThreadCall]]:
        for plugin, pool in self._pools.items():
            for call in pool.calls:
                yield plugin, call

    def _report_interpreter(self, since: float, held: float) -> None:
        """Log which thread kept this one from running for ``held`` seconds.

        It used most of the processor time of the process, however busy the machine is.
        """
        # First of all: to read processor times passes the lock on, and the hook may return.
        (owner, line), beats = self._owner(), self._beats
        least = max((time.process_time() - self._process_cpu) / 2, MIN_USED_S)
        beat = beats[1] if beats[1].at <= since else beats[0]
        used = _processor_time(self._loop_native_id) - beat.cpu
        if used < least or beats[1] is not beat or owner == SERVER:
            # A hook may have returned before the lock was passed on, as on Python 3.12.
            owner, line = UNKNOWN, ""
        for plugin, call in self._calls():
            before = self._samples.get(call, call.cpu)
            after = _processor_time(call.native_id) if call.ended is None else call.cpu_at_end
            if (call.ended or held + since) > since and after - before >= max(used, least):
                used, owner = after - before, (plugin, call.hook)
                line = _line(list(frames_of(call.thread))) if call.ended is None else ""
        what = "held the Python interpreter and stopped all calls"
        if owner != UNKNOWN or (what := describe_unknown(held, used, least)):
            self._log_hold(owner, line, held, what)

    def _report_loop(self, last_beat: float) -> None:
        """Read the stack of the loop, wait until it is released, and log both.

        A prompt of a debugger is left alone, and time limits are suspended.
        """
        at_prompt = is_at_prompt(self._loop_thread)
        self._tasks.has_debugger = self._tasks.has_debugger or at_prompt
        names, line = self._owner()
        held, is_logged = 0.0, at_prompt
        while self._beats[1].at == last_beat and not self._stopped.wait(HEARTBEAT_S / 5):
            held = time.monotonic() - last_beat
            if held > STILL_HELD_AFTER_S and not is_logged:
                is_logged = True
                what = "holds the event loop, and has not released it yet"
                self._log_hold(names, line, held, what)
        if not at_prompt:
            held = max(held, self._beats[1].at - last_beat)
            self._log_hold(names, line, held, "held the event loop")

    def _owner(self) -> tuple[Names, str]:
        """Return the owner of the code that the loop's thread runs, and the line.

        The server is the owner where the hook has returned or waits and code of the server runs,
        such as a check of its answer.
        """
        running, frames = self._tasks.running, list(frames_of(self._loop_thread))
        if running != SERVER and _is_in_hook(frames):
            return running, _line(frames)
        for frame in frames:
            module = str(frame.f_globals.get("__name__", ""))
            while module and not frame.f_code.co_filename.startswith(PACKAGE_ROOT):
                if (name := self._owners.get(module)) is not None:
                    return (running if running[0] == name else (name, "")), _line(frames)
                module = module.rpartition(".")[0]
        return SERVER, _place(frames[0]) if frames else "unknown"

    def _log_hold(self, names: Names, line: str, held: float, what: str) -> None:
        plugin, hook = names
        since = datetime.fromtimestamp(time.time() - held, UTC).isoformat(timespec="milliseconds")
        fields = {"hook": hook, "ms": round(held * 1000), "since": since}
        fields |= {"line": line} if line else {}
        self._log.warning(f"{plugin} {what}", plugin=plugin, **fields)


def describe_unknown(held: float, used: float, least: float) -> str:
    """Return what is logged where no plugin is known to have stopped the process; empty if nothing.

    All in seconds: how long it stood still, the processor time of the loop's thread meanwhile, and
    that below which the thread is not suspected. On a busy machine a thread that does little waits
    for the processor most of the time, and has held nothing.
    """
    if used >= max(least, held / 2):
        return "code on the event loop held the interpreter"
    return "code or another process stopped this process" if held > STILL_HELD_AFTER_S else ""


def _processor_time(native_id: int) -> float:
    """Return the processor time of a thread of this process in seconds; 0.0 where the system does
    not report it, or the thread has ended.
    """
    with suppress(OSError, IndexError, ValueError):
        fields = Path(f"/proc/self/task/{native_id}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    return 0.0


def _is_in_hook(frames: list[FrameType]) -> bool:
    """Return whether the chain has called code that is not the server's."""
    files = [frame.f_code.co_filename for frame in frames]
    at = next((at for at, file in enumerate(files) if file.startswith(_CALLERS)), 0)
    return at > 0 and not files[at - 1].startswith(PACKAGE_ROOT)


def _line(frames: list[FrameType]) -> str:
    """Return the innermost line that belongs neither to the server nor to asyncio."""
    for frame in frames:
        name = frame.f_code.co_filename
        if not name.startswith(PACKAGE_ROOT) and "asyncio" not in name:
            return _place(frame)
    return "unknown"


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
