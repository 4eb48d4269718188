"""Event loop with virtual time, which jumps to the next timer when the loop is idle.

A test of a plugin that sleeps for ten seconds takes no longer than its work. Sockets and threads
work: time jumps only after both were idle for a moment.
"""

import asyncio
import functools
import selectors
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.waiting import HANG_S

IDLE_S = 0.02
"""Real seconds without an event before time jumps."""


class _JumpingSelector:
    """A selector that moves the clock of its loop instead of waiting."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        self._selector = selectors.DefaultSelector()
        self._advance = advance

    def select(self, timeout: float | None = None) -> Any:
        events = self._selector.select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if timeout is None:
            return self._selector.select(None)
        deadline = time.monotonic() + HANG_S
        while not (events := self._selector.select(min(timeout, IDLE_S))):
            if not _others_are_at_work() or time.monotonic() > deadline:
                # One of them may have ended between the two.
                events = self._selector.select(0)
                break
        if not events:
            self._advance(timeout)
        return events

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)


def _others_are_at_work() -> bool:
    """Return whether another thread of this process runs, or waits for a processor or a disk.

    On a busy machine such a wait may take longer than ``IDLE_S``. False where there is no /proc.
    """
    own = str(threading.get_native_id())
    for thread in Path("/proc/self/task").glob("[0-9]*"):
        with suppress(OSError):
            state = (thread / "stat").read_text().rpartition(")")[2].split()[0]
            if thread.name != own and state in "RD":
                return True
    return False


class VirtualLoop(asyncio.SelectorEventLoop):
    """Event loop whose `time` is the clock for tests."""

    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__(_JumpingSelector(self.advance))  # type: ignore[arg-type]

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        self._now += seconds


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an asynchronous test on such a loop."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


def clock() -> float:
    """Return the time of the running loop."""
    return asyncio.get_running_loop().time()


def advance(seconds: float) -> None:
    """Advance the clock of the running loop, like blocking work."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.advance(seconds)


def skip(seconds: float) -> None:
    """Move the clock of the running loop, which may be any, so that timers expire early."""
    loop = asyncio.get_running_loop()
    time = loop.time
    loop.time = lambda: time() + seconds  # type: ignore[method-assign]


@contextmanager
def frozen() -> Iterator[None]:
    """Stop the clock of the running loop, which may be any: what ends then waits for no timer."""
    loop = asyncio.get_running_loop()
    time, began = loop.time, loop.time()
    loop.time = lambda: began if time() < began + HANG_S else time()  # type: ignore[method-assign]
    try:
        yield
    finally:
        loop.time = time  # type: ignore[method-assign]
    assert time() < began + HANG_S, "a timer was waited for"
