"""The context of a hook: plugin, hook and request, and the wall clock of a policy."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, TypeVar

T = TypeVar("T")

HookContext = tuple[tuple[str, str], Any]
"""Names of plugin and hook, and the request; ``None`` for a hook that has none."""

NO_HOOK: HookContext = (("", ""), None)
UNKNOWN = "unknown"
"""Stands for the plugin where the context is none of a hook."""
HOOK_CONTEXT: ContextVar[HookContext] = ContextVar("pexpolicy_hook", default=NO_HOOK)
"""Set before each hook of each call. Tasks and ``asyncio.to_thread`` inherit it, so that a log line
of any library has its plugin, and ``annotate`` its hook.
"""


@contextmanager
def using(variable: ContextVar[T], value: T) -> Iterator[None]:
    """Set a context variable inside."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def hook_context(plugin: str, hook: str, request: Any = None) -> AbstractContextManager[None]:
    """Run the code of a plugin in the context of one of its hooks."""
    return using(HOOK_CONTEXT, ((plugin, hook), request))


WallClock = Callable[[], float]
"""Seconds since 1970."""

_WALL_CLOCK: ContextVar[WallClock] = ContextVar("pexpolicy_wall_clock", default=time.time)
"""The clock of what is built. A constructor of an author has no parameter for it, and policies of
different clocks may be built at a time.
"""


def wall_clock() -> WallClock:
    """Return the wall clock of the policy that is being built.

    A plugin keeps it in its constructor, and reads it in its hooks instead of ``time.time``, which
    it is in a server. In ``pexpolicy explain --at`` and in cases with ``at`` it returns that time::

        self._clock = wall_clock()
        now = datetime.fromtimestamp(self._clock(), UTC)
    """
    return _WALL_CLOCK.get()


def using_wall_clock(clock: WallClock) -> AbstractContextManager[None]:
    """Give this clock to what is built inside."""
    return using(_WALL_CLOCK, clock)


Changes = list[dict[str, object]]
CHANGES: ContextVar[Changes | None] = ContextVar("pexpolicy_changes", default=None)
"""Those of the request that a route of a plugin answers; how else would its handler say them?"""


def record_change(**facts: object) -> None:
    """Have a line written into the audit before the reply to the request that a route answers.

    ``facts`` say what the client has changed; they hold no secrets::

        record_change(action="room_closed", room=room)
    """
    if (changes := CHANGES.get()) is not None:
        changes.append(facts)


LIVE = "live"
"""Before the names of what events tell about the conferences, such as ``live.tenant``."""


class LiveValues:
    """What plugins of a policy know of the conferences, for the conditions that begin with
    ``live.``, and for other plugins.

    ``event_sources`` are those of the events of each environment, for calls of that environment.
    """

    def __init__(
        self, event_sources: Mapping[str, str] | None = None, received: Collection[str] = ()
    ) -> None:
        self.event_sources = event_sources or {}
        self.received = received
        """The sources whose events are received."""
        self.used: set[str] = set()
        """The keys of the conditions."""
        self.read: Callable[[Any, str], int | bool | None] | None = None
        """Returns the value for a request by its name, such as ``tenant``; the plugin sets it."""
        self.report: Callable[..., Awaitable[list[Mapping[str, Any]]]] | None = None
        """Returns the present counts of services by their names."""
        self.limits: Callable[[str], Awaitable[Mapping[str, Any]]] | None = None
        """Returns the limits of a tenant, and what of them is used; another plugin sets it."""
        self.platforms: Mapping[str, Any] = {}
        """By source of events, the driver that has the ``objects`` of that platform."""
        self.services: list[Callable[[str], bool]] = []
        """Each plugin that has services adds what returns whether a name in lower case is that of
        one of them, or the user part of its alias.
        """


_LIVE: ContextVar[LiveValues | None] = ContextVar("pexpolicy_live", default=None)
"""Of what is built, as the clock. The plugin may be built after those whose conditions read it."""


def live_values() -> LiveValues:
    """Return the live values of the policy that is being built."""
    return _LIVE.get() or LiveValues()


def using_live_values(values: LiveValues) -> AbstractContextManager[None]:
    """Give these live values to what is built inside."""
    return using(_LIVE, values)


class DryRunClock:
    """A wall clock that can be set; without a time it is that of the machine."""

    def __init__(self, at: float | None = None) -> None:
        self.at = at
        """Seconds since 1970."""

    def __call__(self) -> float:
        """Return seconds since 1970."""
        return time.time() if self.at is None else self.at


def seconds_of(moment: datetime | None) -> float | None:
    """Return seconds since 1970; raises ``ValueError`` for a time without a zone."""
    if moment is not None and moment.tzinfo is None:
        raise ValueError(f"the time {moment} has no zone: write tzinfo=UTC, or a ZoneInfo")
    return None if moment is None else moment.timestamp()


@contextmanager
def at_time(clock: WallClock, moment: datetime | None) -> Iterator[None]:
    """Set a clock to a time meanwhile; raises ``ValueError`` as ``seconds_of`` does."""
    if moment is None:
        yield
        return
    assert isinstance(clock, DryRunClock), "the policy is built with another clock"
    before, clock.at = clock.at, seconds_of(moment)
    try:
        yield
    finally:
        clock.at = before
