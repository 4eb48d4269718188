"""CPU cores for the servers and for the load.

Server and load generator must not share a core: the generator would then be part of the figure.
Everything that serves shares one core, so that whatever disturbs it disturbs all alike.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class TooFewCores(RuntimeError):
    """This process may use fewer than two cores."""


def serving_and_loading() -> tuple[int, int]:
    """Return the numbers of the serving and of the loading core.

    :raises TooFewCores: when fewer than two cores may be used.
    """
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise TooFewCores("the benchmark needs two cores: one serves, the other makes the load")
    return usable[0], usable[1]


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Pin the processes that are started inside the block, and their children, to ``core``; for
    ``None`` on any.
    """
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def at_once() -> Iterator[None]:
    """Let the processes that are started inside the block run as soon as they have work.

    They stand for other machines: their wait for a processor would be part of the figure. Only
    root may do so: without it, it is.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)
