"""What is known of each node that sends events: its series of numbers, gaps and staleness."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator

import msgspec

from pexpolicy.models.event import STALE, Event, SourceStale

MAX_KNOWN = 10_000
"""Events of a node whose repetition is noticed."""
MAX_NODES = 1000
MAX_GAPS = 100
"""Gaps of a node that are kept; the oldest go first."""
STALE_S = 12 * 3600.0
"""How long a node is stale after the cause, unless it is repaired before."""
STARTED, RESTARTED = "its sink was started", "its sink was started again"
GAP = "missing: "
"""How the reason of a staleness begins that ends when the missing events come."""


class NodeState(msgspec.Struct):
    """The state of one node. Times are in seconds since 1970, of this server but ``top_time``."""

    source: str
    node: str
    """Empty for all nodes of a source."""
    top: int = 0
    """The highest number of its series."""
    top_time: float = 0.0
    """When the node sent that event."""
    gaps: list[tuple[int, int]] = []
    """Missing numbers: first and last."""
    received: float = 0.0
    """When the last event came."""
    lag: float = 0.0
    """Seconds from sending to receiving that event; below 0 if a clock is wrong."""
    stale_since: float | None = None
    why: str = ""


class Nodes:
    """The nodes whose events one process dispatches."""

    def __init__(self, states: Iterable[NodeState] = ()) -> None:
        self.states = {(one.source, one.node): one for one in states}
        self.changed: set[tuple[str, str]] = set()
        """Nodes whose state is to be stored."""
        self.missing = 0
        """Numbers that were left out."""
        self._known: dict[tuple[str, str], OrderedDict[int, None]] = {}

    def take(self, event: Event) -> Iterator[Event]:
        """Yield what an event means for plugins: nothing for a repetition, and perhaps staleness.

        Nothing is held back for an event that is out of order.
        """
        if isinstance(event, SourceStale) and not event.is_stale:
            yield from self.expire(event.received, event.time, event.source)
            return
        if not event.node and not isinstance(event, SourceStale):  # of a repair
            yield event
            return
        key = event.source, event.node
        known = self._known.setdefault(key, OrderedDict())
        identity = hash((event.seq, event.time))
        if identity in known and not isinstance(event, SourceStale):
            return
        known[identity] = None
        if len(known) > MAX_KNOWN:
            known.popitem(last=False)
        state = self.states.get(key) or self._added(key)
        state.received, state.lag = event.received, event.received - event.time
        self.changed.add(key)
        if isinstance(event, SourceStale):
            yield from self._stale(state, event, event.why)
        else:
            yield from self._number(state, event)
            yield event

    def _added(self, key: tuple[str, str]) -> NodeState:
        if len(self.states) >= MAX_NODES:
            oldest = min(self.states, key=lambda one: self.states[one].received)
            self.changed.add(oldest)
            del self.states[oldest], self._known[oldest]
        state = self.states[key] = NodeState(*key)
        return state

    def _number(self, state: NodeState, event: Event) -> Iterator[Event]:
        """Note the number of an event; the series begins again where the sink was restarted."""
        seq, was_known, is_newer = event.seq, state.top_time > 0, event.time > state.top_time
        is_start = event.event == "eventsink_started" and is_newer
        gap = next((one for one in state.gaps if one[0] <= seq <= one[1]), None)
        if gap is not None and not is_newer:
            at, parts = state.gaps.index(gap), [(gap[0], seq - 1), (seq + 1, gap[1])]
            state.gaps[at : at + 1] = [part for part in parts if part[0] <= part[1]]
            if not state.gaps and state.why.startswith(GAP):
                yield self._told(state, event.received, "", is_stale=False)
            return
        if was_known and not is_newer and seq <= state.top:
            return  # of a series before
        if not was_known or is_start or seq <= state.top:
            state.top, state.gaps = 0, []
            yield from self._stale(state, event, RESTARTED if was_known else STARTED)
        if seq > state.top + 1:
            first, last = state.top + 1, seq - 1
            self.missing += last - first + 1 if was_known else 0
            state.gaps = [*state.gaps, (first, last)][-MAX_GAPS:]
            text = f"{GAP}{first} to {last}" if first < last else f"{GAP}{first}"
            yield from self._stale(state, event, text)
        state.top, state.top_time = max(seq, state.top), event.time

    def _stale(self, state: NodeState, event: Event, why: str) -> Iterator[Event]:
        """Mark a node for 12 hours from now; a gap does not hide another reason."""
        if why.startswith(GAP) and state.why and not state.why.startswith(GAP):
            why = state.why
        if (why, event.received) != (state.why, state.stale_since):
            yield self._told(state, event.received, why, is_stale=True)

    def expire(
        self, now: float, until: float | None = None, source: str | None = None
    ) -> Iterator[Event]:
        """Yield the end of what has been stale for 12 hours, or of one source since ``until``."""
        until = now - STALE_S if until is None else until
        for key, state in self.states.items():
            is_meant = source in (None, state.source)
            if is_meant and state.stale_since is not None and state.stale_since <= until:
                state.gaps = []
                self.changed.add(key)
                yield self._told(state, now, "", is_stale=False)

    def _told(self, state: NodeState, now: float, why: str, *, is_stale: bool) -> SourceStale:
        state.stale_since, state.why = now if is_stale else None, why
        return SourceStale(
            source=state.source,
            node=state.node,
            seq=state.top,
            event=STALE,
            time=now,
            received=now,
            why=why,
            is_stale=is_stale,
        )
