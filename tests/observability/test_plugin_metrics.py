"""Metrics of plugins: bounded, exact over threads and workers, and continued over reloads."""

import asyncio
import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pexpolicy import metrics
from pexpolicy.isolation.messages import MetricsUpdate, WorkerError
from pexpolicy.isolation.metrics_updates import MetricsReceiver
from pexpolicy.metrics import MAX_METRICS, MAX_SERIES, MAX_VALUE, OTHER, Definition
from pexpolicy.models.hook_context import hook_context
from pexpolicy.observability.gauges import GaugeSampler
from pexpolicy.observability.health import StateSources
from pexpolicy.observability.prometheus import expose
from pexpolicy.observability.shared_memory import SharedCounters
from tests.support import live_server, wire
from tests.support.isolated import PluginFolder, service

NUMBERS = itertools.count()


@pytest.fixture
def name() -> str:
    """The name of a plugin that no other test has: a process keeps its values."""
    return f"toy{next(NUMBERS)}"


def sampler_of(board: SharedCounters, *plugins: str, slot: int = 0) -> GaugeSampler:
    sampler = GaugeSampler(board.claim(slot), StateSources())
    sampler.use_policy("0" * 16, {}, {}, plugins)
    return sampler


def exposed(board: SharedCounters, plugin: str) -> dict[str, float]:
    """The samples of a plugin, by name and label values, as Prometheus reads them."""
    found = {}
    for family in text_string_to_metric_families(expose(board).decode()):
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
    board = SharedCounters()
    sampler_of(board, name).sample()
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
    board = SharedCounters()
    sampler_of(board, f"{name}a", f"{name}b").sample()
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
    board = SharedCounters()
    sampler_of(board, name).sample()
    values = exposed(board, name)
    assert values["hits_total"] == 16_000
    assert values["took_count{0}"] == values["took_count{1}"] == 8_000


def test_workers_are_summed_and_a_successor_continues(name: str) -> None:
    hits = metrics.counter("hits", "Hits.")
    ready = metrics.gauge("ready", "Ready.")
    oldest = metrics.gauge("oldest", "Oldest.", combine="max")
    board = SharedCounters(2)
    with hook_context(name, "lifespan"):
        hits.inc(3)
        ready.set(1)
        oldest.set(9)
        first, second = sampler_of(board, name), sampler_of(board, name, slot=1)
        first.sample()
        second.sample()
        assert exposed(board, name) == {"hits_total": 6, "ready": 2, "oldest": 9}
        board.release(1, board.claim(1).owner)
        assert exposed(board, name) == {"hits_total": 6, "ready": 1, "oldest": 9}
        metrics.REGISTRY.clear()
        hits.inc()
        sampler_of(board, name, slot=1).sample()
    assert exposed(board, name)["hits_total"] == 7, "the new process adds to what the slot holds"


def test_a_reload_continues_counters_and_hides_gauges_of_removed_plugins(name: str) -> None:
    board = SharedCounters()
    sampler = sampler_of(board, name)
    for _ in range(2):
        with hook_context(name, "__init__"):
            hits = metrics.counter("hits", "Hits.")  # as a module that is imported again
            metrics.gauge("rooms", "Rooms.").set(5)
            hits.inc()
        sampler.use_policy("1" * 16, {}, {}, [name])
        assert exposed(board, name)["rooms"] == 5
    assert exposed(board, name)["hits_total"] == 2
    sampler.use_policy("2" * 16, {}, {}, [])
    assert exposed(board, name) == {"hits_total": 2}
    sampler.use_policy("3" * 16, {}, {}, [name])
    assert exposed(board, name) == {"hits_total": 2, "rooms": 5}


def test_a_metric_whose_labels_change_is_exposed_once(name: str) -> None:
    board = SharedCounters()
    with hook_context(name, "__init__"):
        metrics.counter("hits", "Hits.").inc()
        sampler = sampler_of(board, name)
        metrics.counter("hits", "Hits.", ["source"]).inc(source="a")
        sampler.sample()
    assert exposed(board, name) == {"hits_total{a}": 1}


def test_label_values_without_end_become_one_and_are_reported_once(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    calls = metrics.counter("calls", "Calls.", ["caller", "node"])
    with hook_context(name, "on_decision"), caplog.at_level(logging.WARNING):
        for number in range(MAX_SERIES * 3):
            calls.inc(caller=f"{number}", node="a" * 500)
        assert calls.value(caller=OTHER, node=OTHER) == MAX_SERIES * 2
        for number in range(MAX_METRICS * 2):
            metrics.gauge(f"g{number}", "G.").set(1)
    board = SharedCounters()
    sampler_of(board, name).sample()
    values = exposed(board, name)
    assert sum(v for k, v in values.items() if k.startswith("calls_total")) == MAX_SERIES * 3
    assert len(values) == MAX_SERIES + 1 + MAX_METRICS - 1
    assert max(map(len, values)) < MAX_VALUE + 40
    assert [record.getMessage() for record in caplog.records] == [
        (
            f"plugin {name}: the metric calls has more than {MAX_SERIES} combinations of label "
            "values: further ones are counted as 'other'"
        ),
        f"plugin {name}: has more than {MAX_METRICS} metrics: others are not counted",
    ]


def test_two_metrics_of_one_name_are_reported_and_only_the_first_is_exposed(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    for plugin, metric in ((name, "a_b"), (f"{name}_a", "b"), ("breaker", "open")):
        with hook_context(plugin, "lifespan"):
            metrics.gauge(metric, "Taken.").inc()
    board = SharedCounters()
    with caplog.at_level(logging.WARNING):
        sampler_of(board, name, f"{name}_a", "breaker").sample()
    assert exposed(board, name) == {"a_b": 1}
    assert len(caplog.records) == 2
    assert "is not exposed: another one has the name" in caplog.text


def test_a_full_board_keeps_room_for_the_server(caplog: pytest.LogCaptureFixture) -> None:
    from pexpolicy.observability import metrics as own  # noqa: PLC0415 - of the same name
    from pexpolicy.observability.shared_memory import SERIES_CELLS  # noqa: PLC0415

    board = SharedCounters()
    counters = board.claim()
    definition = own.MetricDefinition("pexpolicy_plugin_x_y", "", ("l",), is_float=True)
    numbers = itertools.count()
    while counters.allocate_for_plugin(definition, (f"{next(numbers)}" * 20,)) is not None:
        pass
    assert counters.allocate(own.SHADOW_DIFF, ("late",)) < SERIES_CELLS - 40_000


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


def test_other_labels_are_refused() -> None:
    with pytest.raises(TypeError, match="has the labels a, and was used with b"):
        metrics.counter("c", "H.", ["a"]).inc(b="x")


@given(st.lists(st.text(max_size=5), min_size=1, max_size=30), st.text())
def test_any_label_value_and_help_can_be_scraped(values: list[str], text: str) -> None:
    plugin = f"toy{next(NUMBERS)}"
    hits = metrics.counter("hits", text, ["value"])
    with hook_context(plugin, "lifespan"):
        for value in values:
            hits.inc(value=value)
    board = SharedCounters()
    sampler_of(board, plugin).sample()
    metrics.REGISTRY.clear()
    assert sum(exposed(board, plugin).values()) == len(values)


ISOLATED = """
HITS = metrics.counter("hits", "Hits.", ["pid"])
TOOK = metrics.histogram("took", "Took.", bounds=[1])
AGE = metrics.gauge("age", "Age.")

class Toy:
    def __init__(self, settings):
        AGE.set(4)

    @hookimpl
    async def service_configuration(self, request):
        HITS.inc(pid="a")
        TOOK.observe(0.5)
        if request.params["do"] == "die":
            os._exit(1)
"""


async def test_worker_processes_are_counted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    folder = PluginFolder(tmp_path)
    source = folder.write("from pexpolicy import metrics\n" + ISOLATED)
    isolated = folder.start(source, processes=2)
    hits = Definition("counter", "hits", "Hits.", ("pid",))
    before = metrics.REGISTRY.value("toy", hits, ("a",))
    async with isolated.lifespan():
        for _ in range(10):
            await service(isolated)
        for _ in range(200):
            if metrics.REGISTRY.value("toy", hits, ("a",)) - before == 10:
                break
            await asyncio.sleep(0.01)
        with pytest.raises(WorkerError):
            await service(isolated, "die")
        await service(isolated)
    assert metrics.REGISTRY.value("toy", hits, ("a",)) - before == 11, "sent when it ends"
    age = Definition("gauge", "age", "Age.", ())
    assert metrics.REGISTRY.value("toy", age, ()) == 4


@pytest.mark.parametrize(
    ("labels", "cells"),
    [(("a", "b"), [1.0]), (("a",), [1.0, 2.0]), (("a",), [-1.0]), (("a" * 101,), [1.0])],
)
def test_a_wrong_update_of_a_worker_is_refused(labels: tuple[str, ...], cells: list[float]) -> None:
    definition = Definition("counter", "hits", "Hits.", ("source",))
    with pytest.raises(WorkerError, match="wrong value of the metric hits"):
        MetricsReceiver("toy")(MetricsUpdate([(definition, labels, cells)]))


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
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "counting.py").write_text(DROP_IN)
    config = tmp_path / "config.toml"
    text = 'plugin_dirs = ["plugins"]\n[server]\nworkers = 2\n[audit]\npath = "audit.jsonl"\n'
    config.write_text(f"{text}[plugins.counting]\n")
    with live_server.running(config) as server:

        def scraped() -> dict[str, float]:
            found: dict[str, float] = {}
            for family in text_string_to_metric_families(server.operator("/metrics").body.decode()):
                found |= {sample.name: sample.value for sample in family.samples}
            return found

        def until(calls: int) -> None:
            values: dict[str, float] = {}
            for _ in range(100):
                values = scraped()
                if values.get("pexpolicy_plugin_counting_calls_total") == calls:
                    assert values["pexpolicy_plugin_counting_built"] == 1
                    return
                time.sleep(0.05)
            raise AssertionError(values)

        for _ in range(20):
            server.ask(wire.LOCATION)
        until(20)
        config.write_text(f"{text}[plugins.counting]\ntimeout = 2.0\n")
        reloaded = subprocess.run(
            [sys.executable, "-m", "pexpolicy", "reload", "--config", str(config)],
            check=True,
            capture_output=True,
        )
        assert reloaded.returncode == 0
        for _ in range(10):
            server.ask(wire.LOCATION)
        until(30)
        worker = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()[0]
        os.kill(int(worker), signal.SIGKILL)
        until(30)
