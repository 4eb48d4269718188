"""The merge of what several workers have counted."""

from collections import Counter
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.observability import metrics
from pexpolicy.observability.metrics import MAX_NODES, Node, Snapshot
from pexpolicy.observability.telemetry import Telemetry
from pexpolicy.server.workers import Message, merged
from tests.support.admin_client import Metrics, metrics_of


def counted(**gauges: float) -> Snapshot:
    """The snapshot of a worker that has refused one request, with these gauges."""
    telemetry = Telemetry()
    telemetry.refused("unknown path", "10.0.0.1")
    snapshot = telemetry.snapshot()
    for name, value in gauges.items():
        snapshot.families[f"pexpolicy_{name}"].samples[f"pexpolicy_{name}",] = value
    return msgspec.msgpack.decode(msgspec.msgpack.encode(snapshot), type=Snapshot)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from([metrics.PLUGIN_CALLS, metrics.REQUESTS, metrics.FALLBACK]),
            st.tuples(st.text(max_size=20), st.text(max_size=20)),
            st.integers(0, 1000),
        ),
        max_size=40,
    )
)
def test_counters_are_summed_over_running_and_ended_workers(done: list[Any]) -> None:
    workers = [Telemetry().snapshot() for _ in range(4)]
    expected = Counter[tuple[str, ...]]()
    for worker, metric, labels, amount in done:
        workers[worker].families[metric.name].add((metric.name, *labels), amount)
        expected[metric.name, *labels] += amount
    total = Snapshot()
    for number, snapshot in enumerate(workers):
        total.add(snapshot, is_running=number > 1)
    for key, amount in expected.items():
        assert total.families[key[0]].samples[key] == amount


def test_gauges_are_combined_by_their_rule_and_end_with_their_worker() -> None:
    total = Snapshot()
    total.add(counted(ready=1, connections=2, loop_lag_seconds=0.5))
    total.add(counted(ready=0, connections=3, loop_lag_seconds=0.1))
    total.add(counted(ready=1, connections=9, loop_lag_seconds=9), is_running=False)
    told = metrics_of(total)
    assert (told("ready"), told("connections"), told("loop_lag_seconds")) == (0, 5, 0.5)
    assert told("workers") == 2
    assert told("refused_requests_total", reason="unknown path") == 3


def test_a_node_that_several_workers_saw_is_one_node() -> None:
    total = Snapshot()
    total.add(Snapshot({}, {"10.0.0.1": Node("10.0.0.1", 5.0, 1)}))
    total.add(Snapshot({}, {"10.0.0.1": Node("10.0.0.1", 4.0, 2, 6.0, "unauthorised")}))
    assert list(total.nodes.values()) == [Node("10.0.0.1", 5.0, 3, 6.0, "unauthorised")]
    strangers = {f"{n}": Node(f"{n}", last_refused=9.0) for n in range(MAX_NODES)}
    total.add(Snapshot({}, strangers))
    assert len(total.nodes) == MAX_NODES
    assert "10.0.0.1" in total.nodes, "a refused address pushes out no node"


class Worker:
    """A worker that reports its metrics when it is asked."""

    def __init__(self) -> None:
        self.snapshot, self.later = counted(), counted()
        self.is_fresh = False

    def send(self, message: Message) -> None:
        assert message.kind == "refresh"
        self.snapshot, self.is_fresh = self.later, True


async def told_by(scraped: Any, *others: Any, ended: Snapshot | None = None) -> Metrics:
    return metrics_of(await merged(scraped, (scraped, *others), ended or Snapshot()))


async def test_a_scrape_shows_what_each_worker_has_counted_by_then() -> None:
    scraped, other = Worker(), Worker()
    other.later.add(counted())
    told = await told_by(scraped, other)
    assert told("refused_requests_total", reason="unknown path") == 3
    told = await told_by(scraped, Worker(), ended=other.snapshot)
    assert told("refused_requests_total", reason="unknown path") == 4
    assert told("workers") == 2
