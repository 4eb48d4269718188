"""The counters of several processes in shared memory."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.observability import metrics
from pexpolicy.observability.aggregate import aggregate
from pexpolicy.observability.shared_memory import SERIES_CELLS, SharedCounters, WorkerCounters
from tests.support.paths import ROOT
from tests.support.waiting import HANG_S

WORKERS = """
import json, os, signal, sys, time
from pexpolicy.observability import metrics
from pexpolicy.observability.shared_memory import SharedCounters
from pexpolicy.observability.aggregate import aggregate

board = SharedCounters(8)
children = []
for number in range(4):
    slot = board.reserve()
    child = os.fork()
    if not child:
        counters = board.claim(slot)
        cell = counters.allocate(metrics.SHADOW_DIFF, (f"plugin-{number % 2}",))
        lag = counters.allocate(metrics.LOOP_LAG)
        counters.cells[lag] = number * metrics.LOOP_LAG.scale
        for _ in range(10_000):
            counters.cells[cell] += 1
        counters.heartbeat()
        counters.cells[counters.allocate(metrics.CONNECTIONS)] = 1
        time.sleep(60)
    children.append((slot, child))

def told():
    found = aggregate(board)
    return {
        "diffs": {labels[0]: cells[0] for labels, cells in found[metrics.SHADOW_DIFF].items()},
        "workers": found[metrics.WORKERS][()][0],
        "lag": round(found[metrics.LOOP_LAG][()][0] / metrics.LOOP_LAG.scale),
    }

deadline = time.monotonic() + 60
while aggregate(board)[metrics.CONNECTIONS].get((), [0])[0] < 4 and time.monotonic() < deadline:
    time.sleep(0.01)
running = told()
slot, worst = children.pop()
os.kill(worst, signal.SIGKILL)
os.waitpid(worst, 0)
board.release(slot, worst)
lost = told()
again = board.reserve()
successor = board.claim(again)
successor.cells[successor.allocate(metrics.SHADOW_DIFF, ("plugin-1",))] += 1
replaced = told()
for _, child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
print(json.dumps([running, lost, replaced, again == slot]))
"""


def test_a_slot_that_is_claimed_is_never_free_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    board = SharedCounters(2)
    slot = board.reserve()
    assert slot == 0
    owned: list[bool] = []

    def look(counters: WorkerCounters) -> Iterator[Any]:
        owned.append(counters.is_owned)
        return iter(())

    monkeypatch.setattr(WorkerCounters, "_entries", look)
    board.claim(slot)
    assert owned == [True]


def test_forked_workers_are_counted_together_and_a_killed_one_takes_no_count_along() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WORKERS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    running, lost, replaced, same_slot = json.loads(ran.stdout)
    counted = {"plugin-0": 20_000, "plugin-1": 20_000}
    assert running == {"diffs": counted, "workers": 4, "lag": 3}
    assert lost == {"diffs": counted, "workers": 3, "lag": 2}
    assert same_slot
    assert replaced["diffs"] == {"plugin-0": 20_000, "plugin-1": 20_001}
    assert replaced["workers"] == 4


counting = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from([metrics.PLUGIN_CALLS, metrics.REQUESTS, metrics.FALLBACK]),
        st.tuples(st.text(max_size=20), st.text(max_size=20)),
        st.integers(0, 1000),
    ),
    max_size=40,
)


@given(counting)
def test_the_sum_is_that_of_all_counterss_whatever_the_labels(
    done: list[tuple[int, metrics.MetricDefinition, tuple[str, str], int]],
) -> None:
    board = SharedCounters(4)
    counterss = [board.claim(slot) for slot in range(4)]
    expected: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for slot, family, labels, amount in done:
        known = tuple(
            text.replace("\x1f", "").encode("utf-8", "replace").decode() for text in labels
        )
        counterss[slot].cells[counterss[slot].allocate(family, known)] += amount
        expected[family.name, known] += amount
    found = aggregate(board)
    told = {
        (family.name, labels): cells[0]
        for family, series in found.items()
        for labels, cells in series.items()
        if family.kind is metrics.MetricType.COUNTER
    }
    assert told == dict(expected)


def test_a_counters_that_is_full_counts_no_further_series_and_breaks_nothing() -> None:
    board = SharedCounters()
    counters = board.claim()
    known = counters.allocate(metrics.SHADOW_DIFF, ("first",))
    for number in range(SERIES_CELLS):
        counters.cells[counters.allocate(metrics.PLUGIN_DURATION, (f"plugin-{number}",)) + 5] += 1
    counters.cells[known] += 3
    found = aggregate(board)
    assert found[metrics.SHADOW_DIFF] == {("first",): [3]}
    assert 100 < len(found[metrics.PLUGIN_DURATION]) < SERIES_CELLS / 20
    assert all(sum(cells) == 1 for cells in found[metrics.PLUGIN_DURATION].values())


def test_there_is_no_slot_beyond_the_last_one() -> None:
    board = SharedCounters(2)
    assert [board.reserve(), board.reserve()] == [0, 1]
    assert board.reserve() is None
    board.release(0, 1)
    assert board.reserve() == 0
