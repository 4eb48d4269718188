"""Garbage collector tuning of the server process.

Imported modules and the objects of a configuration are long-lived. Collections would traverse them
without freeing anything, which slows the start and delays calls.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG_THRESHOLD = 20_000
"""Number of young objects that starts a collection.

A hundred calls in flight hold half as many, and none of them is garbage.
"""


@contextmanager
def importing() -> Iterator[None]:
    """Disable the collector while a block imports modules, and exempt these from collections."""
    with paused():
        yield
        gc.freeze()


@contextmanager
def paused() -> Iterator[None]:
    """Disable the collector while a block builds long-lived objects."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def start_serving() -> None:
    """Exempt all objects of the start-up from collections, and enable the collector."""
    gc.freeze()
    gc.set_threshold(YOUNG_THRESHOLD, *gc.get_threshold()[1:])
    gc.enable()


def collect_frozen() -> None:
    """Free the reference cycles of a closed configuration, and freeze the rest again."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
