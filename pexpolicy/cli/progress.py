"""Progress lines while a policy is built."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pexpolicy.config.progress import Stage

DELAY_S = 2.0
"""Time without a line; most builds take less."""


@contextmanager
def progress_lines(say: Callable[[str], None], *, delay: float = DELAY_S) -> Iterator[Stage]:
    """Report the current stage after ``delay`` seconds, and each later stage at its start."""
    started = time.monotonic()
    stage = "starting"

    def report() -> None:
        say(f"{time.monotonic() - started:.0f} s: {stage}")

    def enter(name: str) -> None:
        nonlocal stage
        stage = name
        if not timer.is_alive():
            report()

    timer = threading.Timer(delay, report)
    timer.daemon = True
    timer.start()
    try:
        yield enter
    finally:
        timer.cancel()
