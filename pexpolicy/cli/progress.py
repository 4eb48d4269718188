"""Progress lines on a terminal while a policy is built."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pexpolicy.config.progress import Stage

PATIENCE = 2.0
"""Seconds without a line: most builds have ended by then."""


@contextmanager
def told(say: Callable[[str], None], *, patience: float = PATIENCE) -> Iterator[Stage]:
    """Say which stage is under way after ``patience``, and each later one when it begins."""
    begun = time.monotonic()
    stage = "starting"

    def speak() -> None:
        say(f"{stage} ({time.monotonic() - begun:.0f} s)")

    def enter(name: str) -> None:
        nonlocal stage
        stage = name
        if not first.is_alive():
            speak()

    first = threading.Timer(patience, speak)
    first.daemon = True
    first.start()
    try:
        yield enter
    finally:
        first.cancel()
