"""Live counts of a server as a platform and an operator see it, over HTTP and by the command.

One server with two workers on SQLite, and two servers on one PostgreSQL, which get the halves of
each case.
"""

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import main
from pexpolicy.testing import Simulator, url_of
from tests.support import live_server, postgresql, wire
from tests.support.server_process import free_port
from tests.support.waiting import HANG_S

START = 1906531200.0
SINK = wire.basic("sink", "a password of the sink")
CONFIG = """
[server]
state_dir = "state"
workers = {workers}
[admin]
port = {port}
[audit]
path = "audit.jsonl"
[events]
user = "sink"
password_file = "sink.password"
[tenants.acme]
aliases = ["*@acme.example.com"]
[plugins.live]
{shared}
"""
CONNECTED = {
    "protocol": "H323",
    "connect_time": None,
    "service_tag": "",
    "conversation_id": "c6a11ca7-99b4-4bf1-95d6-fdaab5ec7c0a",
    "conference": "812345678",
    "source_alias": "ep4@vp.example.com",
    "uuid": "d5fc4ce0-d0cc-4582-8c67-c033ff397c72",
    "call_id": "c6a11ca7-99b4-4bf1-95d6-fdaab5ec7c0a",
    "role": "chair",
    "service_type": "connecting",
    "destination_alias": "812345678@acme.example.com",
    "has_media": True,
    "call_direction": "in",
}


class Site(NamedTuple):
    """The servers of a site."""

    servers: list[live_server.Running]
    configs: list[Path]

    def post(self, number: int, body: object, headers: dict[str, str] = SINK) -> int:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Length": str(len(content)), **headers}
        server = self.servers[number % len(self.servers)]
        message = wire.request_bytes("/events/v1", "POST", sent) + content
        return asyncio.run(wire.send(server.port, message)).status

    def live(self, number: int) -> dict[str, Any]:
        config = str(self.configs[number % len(self.configs)])
        found = CliRunner().invoke(main, ["live", "--json", "-c", config])
        assert found.exit_code == 0, found.output
        document: dict[str, Any] = json.loads(found.stdout)
        return document

    def eventually(self, expected: object, read: Callable[[dict[str, Any]], object]) -> None:
        """Wait until each server tells it."""
        deadline = time.monotonic() + HANG_S
        while any((told := read(self.live(n))) != expected for n in range(len(self.servers))):
            assert time.monotonic() < deadline, f"{told} instead of {expected}"

    def room(self, name: str, *expected: int) -> None:
        def read(document: dict[str, Any]) -> object:
            return tuple(document["services"].get(name, {}).values())

        self.eventually(expected, read)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with ExitStack() as stack:
        shared, count = "", 1
        if request.param == "postgresql":
            database = stack.enter_context(postgresql.Server.running())
            table = f'driver = "postgresql"\nurl = "{database.url}"\npassword_file = "db.password"'
            shared, count = f"[shared]\n{table}\ntimeout = 2.0", 2
        servers, configs = [], []
        for _ in range(count):
            folder = tmp_path_factory.mktemp("site")
            for name, secret in (("sink", "a password of the sink"), ("db", postgresql.PASSWORD)):
                (folder / f"{name}.password").write_text(secret)
                (folder / f"{name}.password").chmod(0o600)
            config = folder / "config.toml"
            config.write_text(CONFIG.format(workers=3 - count, port=free_port(), shared=shared))
            configs.append(config)
            running = live_server.running(config, folder=folder, own_admin_port=True)
            servers.append(stack.enter_context(running))
        yield Site(servers, configs)


def event(seq: int, kind: str, node: str = "10.0.0.1", /, **data: Any) -> dict[str, Any]:
    envelope = {"node": node, "seq": seq, "version": 2, "time": START + seq}
    return {**envelope, "event": kind, "data": data}


def bulk(*events: dict[str, Any]) -> dict[str, Any]:
    return {**event(0, "eventsink_bulk", "127.0.0.1"), "data": [*events]}


def test_a_participant_connects_waits_and_is_in(site: Site) -> None:
    assert site.post(0, event(1, "eventsink_started")) == 200
    assert site.post(1, event(2, "participant_connected", **CONNECTED)) == 200
    site.room("812345678", 0, 0, 0)
    known = {"uuid": CONNECTED["uuid"], "connect_time": START + 1}
    update = event(3, "participant_updated", **known, service_type="waiting_room")
    assert site.post(0, update, wire.basic("sink", "wrong")) == 401
    assert site.post(0, b"{not JSON") == 400
    site.post(1, update)
    site.room("812345678", 0, 0, 1)
    assert site.live(0)["tenants"] == {"acme": {"participants": 0, "hosts": 0, "waiting": 1}}
    site.post(0, event(4, "participant_updated", **known, service_type="conference"))
    site.room("812345678", 1, 1, 0)
    site.eventually(1, lambda told: told["tenants"]["acme"]["participants"])


def test_bulk_twice_counts_once_and_a_gap_is_stale(site: Site) -> None:
    node = "10.0.0.7"
    present = {"service_type": "conference", "connect_time": START, "conference": "gap"}
    first = [event(n, "participant_connected", node, uuid=f"g{n}", **present) for n in (1, 2)]
    assert [site.post(n, bulk(*first)) for n in range(2)] == [200, 200]
    site.room("gap", 2, 0, 0)
    site.post(0, event(5, "participant_connected", node, uuid="g5", **present))
    site.room("gap", 3, 0, 0)
    site.eventually(True, lambda told: told["stale"])
    told = site.servers[0].operator("/plugins/live/stale").json["stale"]
    assert node in [one["node"] for one in told]
    end = {"conference": "gap", "uuid": "late"}
    site.post(1, event(9, "participant_disconnected", node, **end))
    site.post(0, event(8, "participant_connected", node, **present | end))
    site.post(1, event(10, "participant_disconnected", node, conference="gap", uuid="g5"))
    site.room("gap", 2, 0, 0)


def test_a_person_counts_once_and_in_one_room(site: Site) -> None:
    node, other = "10.0.0.8", "10.0.0.9"
    present = {"service_type": "conference", "connect_time": START, "conversation_id": "web"}
    api = {**present, "conference": "one", "protocol": "API", "uuid": "api"}
    web = {**present, "conference": "one", "protocol": "WebRTC", "uuid": "web"}
    site.post(0, event(1, "participant_connected", node, **api))
    site.post(1, event(2, "participant_connected", node, **web))
    site.room("one", 1, 0, 0)
    for number, name in enumerate((node, other)):
        site.post(number, event(3, "conference_started", name, name="two"))
    site.post(0, event(4, "participant_connected", node, **{**web, "conference": "two"}))
    site.room("one", 0, 0, 0)
    site.room("two", 1, 0, 0)
    site.post(1, event(5, "conference_ended", other, name="two"))
    site.post(0, event(5, "participant_updated", node, uuid="web", role="chair"))
    site.room("two", 1, 1, 0)


def test_a_whole_platform_is_counted_while_it_is_asked(site: Site) -> None:
    platform = Simulator(random.Random(8), nodes=["10.1.0.1", "10.1.0.2"])
    people = [platform.join(f"hall{n % 4}", "webrtc", role="chair") for n in range(40)]
    for person in people[::3]:
        platform.leave(person)
    for person in people[1::3]:
        platform.move(person, "breakout")
    for number, request in enumerate(platform.requests):
        server = site.servers[number % len(site.servers)]
        assert server.ask(str(url_of(request))).status == 200
    for number, body in enumerate(platform.deliver(repeat=0.2, delay=9, bulk=20).bodies):
        assert site.post(number, body) == 200
    for name, expected in platform.truth().items():
        site.room(name, *expected)
