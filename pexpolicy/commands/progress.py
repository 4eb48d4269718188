"""Progress lines on a terminal while a policy is built."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pexpolicy.progress import Stage

PATIENCE = 2.0
"""Seconds for which nobody wonders."""
EVERY = 5.0
"""Seconds between two lines about the same stage."""


@contextmanager
def told(
    say: Callable[[str], None], *, patience: float = PATIENCE, every: float = EVERY
) -> Iterator[Stage]:
    """Say a line now and then about what is being done, once it takes longer than ``patience``.

    The lines come from a thread of their own: what is waited for need not know of them.
    """
    begun = time.monotonic()
    stage = ["starting"]
    ended = threading.Event()
    changed = threading.Event()

    def enter(name: str) -> None:
        stage[0] = name
        changed.set()

    def speak() -> None:
        if ended.wait(patience):
            return
        while not ended.is_set():
            changed.clear()
            say(f"{stage[0]} ({time.monotonic() - begun:.0f} s)")
            changed.wait(every)

    speaker = threading.Thread(target=speak, name="pexpolicy-progress", daemon=True)
    speaker.start()
    try:
        yield enter
    finally:
        ended.set()
        changed.set()
        speaker.join()
