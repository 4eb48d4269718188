"""Metrics of plugins: bounded, exact over threads and workers, and continued over reloads."""

import itertools
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pexpolicy import metrics
from pexpolicy.models.context import hook_context
from pexpolicy.observability.metrics import Snapshot, expose
from pexpolicy.observability.telemetry import Telemetry
from pexpolicy.plugins.metrics import MAX_SERIES, MAX_VALUE, OTHER, PLUGIN_METRICS
from tests.server.test_reload import reloaded
from tests.support import fake_plugins, live_server, wire
from tests.support.fake_plugins import always, policy
from tests.support.processes import children
from tests.support.waiting import wait_until

NUMBERS = itertools.count()


@pytest.fixture
def name() -> str:
    """The name of a plugin that no other test has: a process keeps its values."""
    return f"toy{next(NUMBERS)}"


def counted(*plugins: str) -> Snapshot:
    """What this process has counted while these plugins are configured."""
    telemetry = Telemetry()
    hooks = fake_plugins.plugin(media_location=always(None))
    telemetry.use_policy(policy(dict.fromkeys(plugins, hooks)))
    return telemetry.snapshot()


def exposed(snapshot: Snapshot, plugin: str) -> dict[str, float]:
    """The samples of a plugin, by name and label values, as Prometheus reads them."""
    found = {}
    for family in text_string_to_metric_families(expose(snapshot).decode()):
        for sample in family.samples:
            before, _, rest = sample.name.partition(f"pexpolicy_plugin_{plugin}_")
            if rest and not before:
                labels = ",".join(sample.labels.values())
                found[f"{rest}{{{labels}}}" if labels else rest] = sample.value
    return found


def test_each_kind_is_exposed_with_its_type_and_help(name: str) -> None:
    hits = metrics.counter("hits_total", "Answers from memory.", ["source"])
    age = metrics.gauge("age_seconds", "Age of the data.")
    took = metrics.histogram("took_seconds", "Time of a look-up.", bounds=[0.1, 1])
    with hook_context(name, "lifespan"):
        hits.inc(source="hr")
        hits.inc(2.5, source="hr")
        age.set(7)
        age.dec(0.5)
        for seconds in (0.05, 0.1, 0.5, 3):
            took.observe(seconds)
        assert (hits.value(source="hr"), took.value()) == (3.5, 4)
    board = counted(name)
    text = expose(board).decode()
    assert f"# HELP pexpolicy_plugin_{name}_hits_total Answers from memory." in text
    assert f"# TYPE pexpolicy_plugin_{name}_took_seconds histogram" in text
    assert exposed(board, name) == {
        "hits_total{hr}": 3.5,
        "age_seconds": 6.5,
        "took_seconds_bucket{0.1}": 2,
        "took_seconds_bucket{1.0}": 3,
        "took_seconds_bucket{+Inf}": 4,
        "took_seconds_count": 4,
        "took_seconds_sum": 3.65,
    }


def test_one_metric_of_a_module_counts_for_each_plugin_that_uses_it(name: str) -> None:
    with hook_context(f"{name}a", "__init__"):
        hits = metrics.counter("hits", "Hits.")
        hits.inc()
    with hook_context(f"{name}b", "service_configuration"):
        hits.inc(5)
    thread = threading.Thread(target=hits.inc)
    thread.start()
    thread.join()
    board = counted(f"{name}a", f"{name}b")
    assert exposed(board, f"{name}a") == {"hits_total": 2}, "a thread counts for the maker"
    assert exposed(board, f"{name}b") == {"hits_total": 5}


def test_no_increment_of_many_threads_is_lost(name: str) -> None:
    hits = metrics.counter("hits", "Hits.")
    took = metrics.histogram("took", "Took.", ["thread"], bounds=[1])

    def count(number: int) -> None:
        with hook_context(name, "on_decision"):
            for _ in range(2000):
                hits.inc()
                took.observe(0.5, thread=str(number % 2))

    threads = [threading.Thread(target=count, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    values = exposed(counted(name), name)
    assert values["hits_total"] == 16_000
    assert values["took_count{0}"] == values["took_count{1}"] == 8_000


def test_a_reload_continues_counters_and_hides_gauges_of_removed_plugins(name: str) -> None:
    for _ in range(2):
        with hook_context(name, "__init__"):
            hits = metrics.counter("hits", "Hits.")  # as a module that is imported again
            metrics.gauge("rooms", "Rooms.").set(5)
            hits.inc()
        assert exposed(counted(name), name)["rooms"] == 5
    assert exposed(counted(name), name)["hits_total"] == 2
    assert exposed(counted(), name) == {"hits_total": 2}
    assert exposed(counted(name), name) == {"hits_total": 2, "rooms": 5}


def test_a_metric_whose_labels_change_is_exposed_once(name: str) -> None:
    with hook_context(name, "__init__"):
        metrics.counter("hits", "Hits.").inc()
    with hook_context(name, "__init__"):
        metrics.counter("hits", "Hits.", ["source"]).inc(source="a")
        with pytest.raises(ValueError, match="metric 'hits' is made twice"):
            metrics.counter("hits", "Hits.")
    assert exposed(counted(name), name) == {"hits_total{a}": 1}


def test_label_values_without_end_become_one(name: str) -> None:
    calls = metrics.counter("calls", "Calls.", ["caller", "node"])
    with hook_context(name, "on_decision"):
        for number in range(MAX_SERIES * 3):
            calls.inc(caller=f"{number}", node="a" * 500)
        assert calls.value(caller=OTHER, node=OTHER) == MAX_SERIES * 2
    values = exposed(counted(name), name)
    assert sum(values.values()) == MAX_SERIES * 3
    assert len(values) == MAX_SERIES + 1
    assert max(map(len, values)) < MAX_VALUE + 40


def test_of_two_metrics_of_one_name_only_the_first_is_exposed(name: str) -> None:
    for plugin, metric in ((name, "a_b"), (f"{name}_a", "b"), ("breaker", "open")):
        with hook_context(plugin, "lifespan"):
            metrics.gauge(metric, "Taken.").inc()
    assert exposed(counted(name, f"{name}_a", "breaker"), name) == {"a_b": 1}


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: metrics.counter("Hits", "H."), "lower-case letters"),
        (lambda: metrics.counter("", "H."), "lower-case letters"),
        (lambda: metrics.gauge("g", "H.", ["le"]), "'le' is not the name of a label"),
        (lambda: metrics.gauge("g", "H.", ["a", "a"]), "named twice"),
        (lambda: metrics.histogram("h", "H.", bounds=[2, 1]), "ascending"),
        (lambda: metrics.histogram("h", "H.", bounds=[float("inf")]), "ascending"),
        (lambda: metrics.histogram("h", "H.", bounds=range(100)), "up to 30 bounds"),
        (lambda: metrics.counter("c", "H.").inc(-1), "at least 0"),
        (lambda: metrics.counter("c", "H.").inc(float("nan")), "at least 0"),
        (lambda: metrics.histogram("h", "H.").observe(float("nan")), "finite"),
    ],
)
def test_what_prometheus_would_not_take_is_refused(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


@given(st.lists(st.text(max_size=5), min_size=1, max_size=30), st.text())
def test_any_label_value_and_help_can_be_scraped(values: list[str], text: str) -> None:
    plugin = f"toy{next(NUMBERS)}"
    hits = metrics.counter("hits", text, ["value"])
    with hook_context(plugin, "lifespan"):
        for value in values:
            hits.inc(value=value)
    board = counted(plugin)
    PLUGIN_METRICS.clear()
    assert sum(exposed(board, plugin).values()) == len(values)


DROP_IN = """
from pexpolicy import Continue, hookimpl, metrics

CALLS = metrics.counter("calls", "Calls.")
BUILT = metrics.gauge("built", "Instances.", combine="max")

class Counting:
    def __init__(self, settings):
        BUILT.set(1)

    @hookimpl
    def media_location(self, request):
        CALLS.inc()
        return Continue()
"""


def test_workers_of_a_server_are_summed_over_reloads_and_kills(tmp_path: Path) -> None:
    config = live_server.drop_in(tmp_path, "counting", DROP_IN, more="[server]\nworkers = 2")
    with live_server.running(config) as server:

        def scraped() -> dict[str, float]:
            found: dict[str, float] = {}
            for family in text_string_to_metric_families(server.operator("/metrics").body.decode()):
                found |= {sample.name: sample.value for sample in family.samples}
            return found

        def wait_for(calls: int) -> None:
            wait_until(lambda: scraped().get("pexpolicy_plugin_counting_calls_total") == calls)
            assert scraped()["pexpolicy_plugin_counting_built"] == 1

        for _ in range(20):
            server.ask(wire.LOCATION)
        wait_for(20)
        config.write_text(f"{config.read_text()}timeout = 2.0\n")
        assert reloaded(config).done
        for _ in range(10):
            server.ask(wire.LOCATION)
        wait_for(30)
        os.kill(min(children(server.pid)), signal.SIGKILL)
        wait_for(30)
