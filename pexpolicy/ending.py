"""The end of a server that code of its plugins does not let go of."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

STOPPING = 9.0
"""Seconds from the signal to the end, with all calls under way and all lifespans."""
LINGERING = 2.0
"""Seconds for the tasks and threads that are left once the last call is answered."""


def leave_within(seconds: float, leftovers: Callable[[], list[str]]) -> None:
    """End the process with exit code 0 after ``seconds``, unless it has ended by itself.

    A task that swallows its cancellation, a thread that never returns or a lifespan that hangs
    would each keep it for ever. ``leftovers`` names what was left behind, as far as it is known.
    """
    timer = threading.Timer(seconds, leave, (leftovers,))
    timer.daemon = True
    timer.start()


def leave(leftovers: Callable[[], list[str]]) -> None:
    """Name what is left behind, and end the process now: the interpreter would wait for it."""
    names = ", ".join(leftovers()) or "code of plugins that does not end"
    try:
        sys.stderr.write(f"left behind: {names}\n")
        sys.stderr.flush()
    finally:
        os._exit(0)
