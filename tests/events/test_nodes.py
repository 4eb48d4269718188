"""The series of each node: what is missing, what is repeated, and when that is over."""

from typing import Any

import msgspec
import pytest

from pexpolicy.events import SourceStale
from pexpolicy.events.nodes import MAX_NODES, STALE_S, Nodes
from pexpolicy.models.event import typed_event

START = "its sink was started"
AGAIN = "its sink was started again"


def event(seq: int, time: float | None = None, name: str = "participant_updated") -> Any:
    when = 1000.0 + seq if time is None else time
    envelope = {"node": "n", "seq": seq, "version": 2, "time": when, "event": name, "data": {}}
    return typed_event(envelope, "default", 5000.0)


def started(time: float) -> Any:
    return event(1, time, "eventsink_started")


SERIES: list[tuple[list[Any], list[Any], str | None, list[tuple[int, int]]]] = [
    ([started(1001), event(2), event(3)], [START, 1, 2, 3], START, []),
    ([event(0), event(0, 1001), event(1)], [START, 0, AGAIN, 0, 1], AGAIN, []),
    ([event(5)], [START, 5], START, [(1, 4)]),
    ([event(5), event(5), event(6)], [START, 5, 6], START, [(1, 4)]),
    ([event(5), event(4), event(4)], [START, 5, 4], START, [(1, 3)]),
    ([event(1), started(2000), event(2, 2001)], [START, 1, AGAIN, 1, 2], AGAIN, []),
    ([event(7), event(2, 2001)], [START, 7, AGAIN, 2], None, [(1, 1)]),
    ([event(7), started(2000), event(8, 2008)], [START, 7, AGAIN, 1, 8], AGAIN, [(2, 7)]),
    ([event(2), started(1001)], [START, 2, 1], START, []),
    # of the future, and of another clock
    (
        [event(10**14, 9e9), event(3), event(4)],
        [START, 10**14, 3, 4],
        START,
        [(1, 2), (5, 10**14 - 1)],
    ),
]


@pytest.mark.parametrize(("events", "given", "why", "gaps"), SERIES)
def test_a_series_is_given_once_and_its_gaps_are_noted(
    events: list[Any], given: list[Any], why: str | None, gaps: list[tuple[int, int]]
) -> None:
    nodes = Nodes()
    found = [one for event in events for one in nodes.take(event)]
    assert [one.why if isinstance(one, SourceStale) else one.seq for one in found] == given
    (state,) = nodes.states.values()
    assert state.gaps == gaps
    assert why is None or state.why == why


def test_a_gap_is_over_when_its_events_come_and_everything_after_twelve_hours() -> None:
    nodes = Nodes()
    assert [*nodes.take(event(1))]
    (over,) = nodes.expire(5000.0 + STALE_S + 1)
    assert isinstance(over, SourceStale)
    assert not over.is_stale
    found = [one for seq in (4, 2, 3) for one in nodes.take(event(seq))]
    stale = [(one.why, one.is_stale) for one in found if isinstance(one, SourceStale)]
    assert stale == [("missing: 2 to 3", True), ("", False)]
    assert nodes.missing == 2
    assert [*nodes.expire(1e12)] == []


def test_a_gap_after_a_start_counts_from_the_gap() -> None:
    nodes = Nodes()
    assert [*nodes.take(event(1))]
    late = msgspec.structs.replace(event(9), received=5000.0 + STALE_S / 2)
    assert [one.event for one in nodes.take(late)] == ["source_stale", "participant_updated"]
    assert [*nodes.expire(5000.0 + STALE_S + 1)] == []
    assert [*nodes.expire(5001.0 + STALE_S * 1.5)]


def test_nodes_that_somebody_makes_up_are_bounded() -> None:
    nodes = Nodes()
    for number in range(MAX_NODES + 50):
        made = typed_event(
            {"node": f"n{number}", "seq": 1, "time": 1.0, "event": "x", "version": 2, "data": {}},
            "default",
            float(number),
        )
        assert [*nodes.take(made)]
    assert len(nodes.states) == MAX_NODES
    assert ("default", "n0") not in nodes.states
