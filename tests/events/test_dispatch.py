"""Events from the socket to the plugins: once, in order, in one process of all."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.events.test_receiver import SINK, bulk, event
from tests.support import live_server, postgresql, wire
from tests.support.live_server import Running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

PLUGIN = """
import json, os
from pathlib import Path

from pexpolicy import Plugin
from pexpolicy.events import SourceStale

FILE = Path(__file__).parents[2] / "events.jsonl"


class Recorder(Plugin):
    async def on_events(self, events):
        with FILE.open("a") as file:
            for one in events:
                why = one.why if isinstance(one, SourceStale) else ""
                line = [one.source, one.node, one.seq, one.event, why, os.getpid()]
                file.write(json.dumps(line) + "\\n")
"""


@contextmanager
def sinks(folder: Path, *arguments: str, more: str = "") -> Iterator[Running]:
    folder.mkdir(exist_ok=True)
    table = '[events]\nuser = "sink"\npassword_env = "SINK_PASSWORD"\n'
    config = live_server.drop_in(folder, "recorder", PLUGIN, more=table + more)
    environment = {"SINK_PASSWORD": "s3cret-of-the-sink"}
    with live_server.running(config, *arguments, environment=environment) as server:
        yield server


def post(server: Running, *bodies: object, user: Mapping[str, str] = SINK) -> None:
    for body in bodies:
        content = json.dumps(body).encode()
        head = {"Content-Length": str(len(content)), **user}
        sent = wire.request_bytes("/events/v1", "POST", head) + content
        assert asyncio.run(wire.send(server.port, sent)).status == 200


def status(server: Running, **updates: int) -> Any:
    """The state of events, once all are dispatched and so many updates are counted."""
    told: list[Any] = []

    def is_counted() -> bool:
        told.append(server.operator("/status").json["events"])
        counts = told[-1]["counts"].get("participant_updated")
        return (told[-1]["waiting"], counts) == (0, updates)

    wait_until(is_counted)
    return told[-1]


def gaps(server: Running) -> Any:
    return [
        gap for node in server.operator("/status").json["events"]["nodes"] for gap in node["gaps"]
    ]


def told(folder: Path, name: str = "events.jsonl") -> list[Any]:
    file = folder.parent / name
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def seqs(folder: Path) -> list[int]:
    return [seq for _, _, seq, name, _, _ in told(folder) if name != "source_stale"]


def test_events_come_once_and_in_order_and_gaps_are_told(tmp_path: Path) -> None:
    tmp_path /= "a"
    with sinks(tmp_path, "--workers", "2") as server:
        started = event(1, event="eventsink_started", data={}, time=1000.0)
        post(server, started, *(event(n, time=1000.0 + n) for n in (2, 3, 4)))
        both = bulk(event(6, time=1006.0), event(5, time=1005.0))
        post(server, both, both, event(9, time=1009.0))
        wait_until(lambda: 9 in seqs(tmp_path))
        node = status(server, dispatched=6, repeated=2)["nodes"][0]
        assert (node["gaps"], node["why"]) == ([[7, 8]], "its sink was started")
        post(server, event(8, time=1008.0), event(7, time=1007.0), event(7, time=1007.0))
        wait_until(lambda: 7 in seqs(tmp_path))
        post(server, event(10, time=1010.0))
        wait_until(lambda: 10 in seqs(tmp_path))
        state = status(server, dispatched=9, repeated=3)
        assert (state["problem"], state["remarks"]) == (None, {})
        node = state["nodes"][0]
        assert (node["source"], node["node"], node["gaps"]) == ("default", "10.0.0.1", [])
        metrics = server.operator("/metrics").body.decode()
        assert 'pexpolicy_events_stale{node="10.0.0.1",source="default"} 1.0' in metrics
        assert "pexpolicy_events_missing_total 2.0" in metrics
        # In a process of its own, which calls need not wait for.
        assert "pexpolicy_workers 2.0" in metrics
        assert os.getpriority(os.PRIO_PROCESS, told(tmp_path)[-1][-1]) > 0
    found = told(tmp_path)
    assert sorted(seqs(tmp_path)) == [*range(1, 11)]
    assert seqs(tmp_path)[:7] == [1, 2, 3, 4, 5, 6, 9]
    assert {why for *_, why, _ in found if why} == {"its sink was started"}
    assert len({pid for *_, pid in found}) == 1


def test_a_plugin_of_an_environment_gets_the_events_of_its_source(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    live_server.drop_in(folder, "of_lab", PLUGIN.replace("events.jsonl", "lab.jsonl"))
    tables = (
        '[events.lab]\nuser = "lab"\npassword_env = "SINK_PASSWORD"\n'
        '[environments.lab]\nnetworks = ["192.0.2.0/24"]\n'
        '[plugins.of_lab]\nenvironments = ["lab"]\n'
    )
    with sinks(folder, more=tables) as server:
        post(server, event(1, time=1001.0))
        post(server, event(2, time=1002.0), user=wire.basic("lab", "s3cret-of-the-sink"))
        wait_until(lambda: sorted(seqs(folder)) == [1, 2] and told(folder, "lab.jsonl"))
    assert {source for source, *_ in told(folder)} == {"default", "lab"}
    assert {source for source, *_ in told(folder, "lab.jsonl")} == {"lab"}


def test_another_worker_takes_over(tmp_path: Path) -> None:
    tmp_path /= "a"
    with sinks(tmp_path, "--workers", "2") as server:
        post(server, event(1, time=1001.0))
        wait_until(lambda: seqs(tmp_path) == [1])
        status(server, dispatched=1)
        owner = told(tmp_path)[-1][-1]
        os.kill(owner, signal.SIGKILL)
        post(server, event(2, time=1002.0))
        wait_until(lambda: 2 in seqs(tmp_path))
        assert told(tmp_path)[-1][-1] != owner
    with sinks(tmp_path) as server:
        post(server, event(3, time=1003.0))
        wait_until(lambda: 3 in seqs(tmp_path))
    assert [why for *_, why, _ in told(tmp_path) if why] == ["its sink was started"]


def test_two_servers_share_one_series(tmp_path: Path) -> None:
    with postgresql.Server.running() as database:
        shared = f'url = "{database.url}"\npassword_file = "{database.folder}/password"\n'
        more = f'[shared]\ndriver = "postgresql"\n{shared}'
        folders = tmp_path / "a", tmp_path / "b"
        with sinks(folders[0], more=more) as first, sinks(folders[1], more=more) as second:
            for seq, server in enumerate((first, second) * 5, 1):
                post(server, event(seq, time=1000.0 + seq))
            post(second, event(9, time=1009.0))
            post(first, event(12, time=1012.0))
            wait_until(lambda: 12 in seqs(folders[0]))
            for one in (first, second):
                wait_until(lambda: gaps(one) == [[11, 11]])  # noqa: B023
    assert sorted(seqs(folders[0])) == [*range(1, 11), 12]
    assert len({pid for *_, pid in told(folders[0])}) == 1


FAILING = """
from pexpolicy import Plugin

FAILED = set()


class Failing(Plugin):
    async def on_events(self, events):
        for one in events:
            if one.seq == 3:
                raise ValueError("a defect")
            if one.seq == 5 and one.seq not in FAILED:
                FAILED.add(one.seq)
                raise ConnectionError("for a moment")
"""


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_a_plugin_that_fails_gets_them_again_and_others_get_theirs(
    tmp_path: Path, isolation: str
) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    live_server.drop_in(folder, "failing", FAILING)
    with sinks(folder, more=f'[plugins.failing]\nisolation = "{isolation}"\n') as server:
        post(server, bulk(*(event(seq, time=1000.0 + seq) for seq in range(1, 5))))
        post(server, *(event(seq, time=1000.0 + seq) for seq in range(5, 8)))
        wait_until(lambda: 7 in seqs(folder))
        counts = status(server, dispatched=7)["counts"]
    assert seqs(folder) == [*range(1, 8)]
    assert counts == {"participant_updated": {"dispatched": 7}, "other": {"dropped": 1}}
