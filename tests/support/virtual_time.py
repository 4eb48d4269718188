"""An event loop whose time passes at once when there is nothing to do.

A test of a plugin that sleeps for ten seconds takes as long as the work in it. Sockets and threads
keep working: time jumps only when neither has anything to say for a moment.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

GRACE = 0.02
"""Real seconds that a socket or a thread gets before time jumps."""


class _Jumping:
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
        events = self._selector.select(min(timeout, GRACE))
        if not events:
            self._advance(timeout)
        return events

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; its `time` is the clock to hand over."""

    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__(_Jumping(self.advance))  # type: ignore[arg-type]

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass without waiting."""
        self._now += seconds


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an asynchronous test on such a loop."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


def clock() -> float:
    """The time of the loop that runs."""
    return asyncio.get_running_loop().time()


def advance(seconds: float) -> None:
    """Let time pass on the loop that runs, as work that never awaits does."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.advance(seconds)
