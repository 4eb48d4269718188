"""Garbage collector tuning of the server process.

What is imported, and what is built of a configuration, lives as long as it is used. The collector
would search it in vain: at start-up, and later in pauses that calls have to wait for.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG = 20_000
"""Young objects that start a collection.

A hundred calls under way hold half as many, and none of that is garbage.
"""


@contextmanager
def importing() -> Iterator[None]:
    """Disable the collector for a block that imports, and exempt what it imported."""
    with paused():
        yield
        freeze()


@contextmanager
def paused() -> Iterator[None]:
    """Disable the collector for a block that builds."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def pause_until_serving() -> None:
    """Disable the collector until ``start_serving`` is called."""
    gc.disable()


def start_serving() -> None:
    """Exempt everything that start-up made from collections, and enable the collector."""
    freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
    gc.enable()


def freeze() -> None:
    """Exempt all present objects from collections, such as those of a new configuration."""
    gc.freeze()


def collect_frozen() -> None:
    """Free the cycles of a configuration that is no longer used, and freeze the rest again."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
