"""Processes of Linux, any of which may end while it is looked at."""

import os
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.waiting import wait_until

GONE = (FileNotFoundError, ProcessLookupError)


def is_running(pid: int) -> bool:
    """Return false once a process has ended, reaped or not."""
    return _state(Path(f"/proc/{pid}")) not in "ZX"


def wait_for_end(*pids: int) -> None:
    """Wait until these processes have ended, reaped or not."""
    wait_until(lambda: not any(map(is_running, pids)))


def children(pid: int) -> set[int]:
    """Return the processes that a process has started and that were not reaped."""
    found: set[int] = set()
    for thread in _threads(pid):
        with suppress(*GONE):
            found.update(map(int, (thread / "children").read_text().split()))
    return found


def pin(pid: int, cores: Collection[int]) -> None:
    """Let all threads of a process run on these cores only; those that they start do so, too."""
    for thread in _threads(pid):
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


@contextmanager
def frozen(pid: int) -> Iterator[list[int]]:
    """Stop a process and all that it has started, and yield them, itself first.

    What is stopped starts no other one.
    """
    stopped: list[int] = []
    try:
        _stop(pid, stopped)
        yield stopped
    finally:
        for one in reversed(stopped):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGCONT)


def _stop(pid: int, stopped: list[int]) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        stopped.append(pid)
    while not all(_state(thread) in "TtZX" for thread in _threads(pid)):
        time.sleep(0.001)
    for child in children(pid):
        _stop(child, stopped)


def _threads(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except GONE:
        return []


def _state(process: Path) -> str:
    """Return the letter of a process or thread; ``X`` if it is gone."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0]
    except GONE:
        return "X"
