"""The watchdog of the event loop: it names the plugin and the line that block it.

Code that blocks in an ``async def`` stops every call of the process, and nothing in the process can
interrupt it. It can be named: a thread notices that the heartbeat of the loop is missing, and
reads the stack of the loop's thread.

A call into C code that keeps the interpreter lock, such as ``re`` with a slow pattern, stops all
threads, this one included, whatever thread it runs in. Afterwards the thread that used the
processor meanwhile is named. The stacks could be printed before, by ``faulthandler`` without the
lock, but it reads frames that may be changing then, and can crash the server.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from pexpolicy.chain.stack_inspection import (
    SERVER,
    Names,
    StackInspector,
    current_line,
    is_at_prompt,
)

if TYPE_CHECKING:
    from pexpolicy.chain.hook_tasks import HookTasks
    from pexpolicy.chain.thread_pool import PluginThreadPool, ThreadCall
    from pexpolicy.errors import Log

HEARTBEAT_S = 0.05
REPORT_AFTER_S = 0.1
"""Delay of a heartbeat that is reported."""
STILL_HELD_AFTER_S = 1.0
"""Delay after which a loop that is still held is reported before it is released."""
TOO_LATE_S = 0.02
"""Time between a look at the stack and the release in which the holder may have been gone."""
MIN_USED_S = 0.05
"""Processor time below which no thread can have kept the interpreter."""
UNKNOWN = ("unknown", "")
TICKS = os.sysconf("SC_CLK_TCK")


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
        self._stacks = StackInspector(modules or {})
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
        owner, beats = self._stacks.owner(self._loop_thread, self._tasks.running), self._beats
        least = max((time.process_time() - self._process_cpu) / 2, MIN_USED_S)
        beat = beats[1] if beats[1].at <= since else beats[0]
        used = _processor_time(self._loop_native_id) - beat.cpu
        names, line = UNKNOWN, ""
        if used >= least and beats[1] is beat:
            names, line = owner
            if names == SERVER:
                # A hook may have returned before the lock was passed on, as on Python 3.12.
                names, line = UNKNOWN, ""
        for plugin, call in self._calls():
            ran_meanwhile = call.ended is None or call.ended > since
            before = self._samples.get(call, call.cpu)
            after = _processor_time(call.native_id) if call.ended is None else call.cpu_at_end
            if ran_meanwhile and after - before >= max(used, least):
                used = after - before
                names = plugin, call.hook
                line = current_line(call.thread) if call.ended is None else ""
        if names != UNKNOWN:
            self._log_hold(names, line, held, "held the Python interpreter and stopped all calls")
        elif what := describe_unknown(held, used, least):
            self._log_hold(UNKNOWN, "", held, what)

    def _report_loop(self, last_beat: float) -> None:
        """Read the stack of the loop, wait until it is released, and log both.

        A prompt of a debugger is left alone, and time limits are suspended.
        """
        if is_at_prompt(self._loop_thread):
            self._tasks.has_debugger = True
            while self._beats[1].at == last_beat and not self._stopped.wait(HEARTBEAT_S):
                pass
            return
        names, line = self._stacks.owner(self._loop_thread, self._tasks.running)
        looked = time.monotonic()
        held = 0.0
        is_logged = False
        while self._beats[1].at == last_beat and not self._stopped.wait(HEARTBEAT_S / 5):
            held = time.monotonic() - last_beat
            if held > STILL_HELD_AFTER_S and not is_logged:
                is_logged = True
                self._log_hold(
                    names, line, held, "holds the event loop, and has not released it yet"
                )
        held = max(held, self._beats[1].at - last_beat)
        if names == SERVER and self._beats[1].at - looked < TOO_LATE_S:
            names, line = UNKNOWN, ""
        self._log_hold(names, line, held, "held the event loop")

    def _log_hold(self, names: Names, line: str, held: float, what: str) -> None:
        plugin, hook = names
        since = datetime.fromtimestamp(time.time() - held, UTC).isoformat(timespec="milliseconds")
        place = {"line": line} if line else {}
        self._log.warning(
            f"{plugin} {what}",
            plugin=plugin,
            hook=hook,
            ms=round(held * 1000),
            since=since,
            **place,
        )


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
        return (int(fields[11]) + int(fields[12])) / TICKS
    return 0.0
