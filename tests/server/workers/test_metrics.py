"""What several workers tell of themselves: one sum, whichever of them is asked."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.test_reload import command, written
from tests.support import live_server, wire
from tests.support.admin_client import Metrics, parse
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers-metrics")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[live_server.Running]:
    (folder / "config.toml").write_text(written("first"))
    with live_server.running(folder / "config.toml", "--workers", "2") as running:
        yield running


def scrape(server: live_server.Running) -> Metrics:
    return parse(server.operator("/metrics").body.decode())


def calls(told: Metrics) -> float:
    return sum(told.nonzero("requests_total").values())


def test_each_worker_tells_the_sum_of_all(server: live_server.Running) -> None:
    for number in range(40):
        server.ask(f"{wire.SERVICE}?local_alias=a&node_ip=10.0.0.{number % 4}")
    told = [scrape(server) for _ in range(8)]
    assert {calls(metrics) for metrics in told} == {40}
    assert {metrics("workers") for metrics in told} == {2}
    wait_until(lambda: scrape(server)("ready") == 1)
    assert all(metrics("loop_lag_seconds") < 5 for metrics in told)
    documents = [server.operator("/status").json for _ in range(8)]
    for document in documents:
        assert {node["node"]: node["calls"] for node in document["nodes"]} == {
            f"10.0.0.{number}": 10 for number in range(4)
        }
    assert len({document["pid"] for document in documents}) <= 2


def test_a_reload_shows_as_one_configuration_at_a_time(
    server: live_server.Running, folder: Path
) -> None:
    config = folder / "config.toml"
    (old,) = scrape(server).nonzero("build_info")
    config.write_text(written("second"))
    assert command("reload", config).returncode == 0
    (new,) = scrape(server).nonzero("build_info")
    assert new != old
    config.write_text(written("third") + "nmae = 1\n")
    assert command("reload", config).returncode == 78
    told = scrape(server)
    assert told.nonzero("build_info") == {new: 1}
    wait_until(lambda: scrape(server)("config_last_reload_successful") == 0)
    refused = server.operator("/status").json["config"]
    assert not refused["last_reload_successful"]
    assert refused["problems"]
