"""Live counts of a server as a platform and an operator see it, over HTTP and by the command.

One server with two workers on SQLite, and two servers on one PostgreSQL, which get the halves of
each case.
"""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import main
from pexpolicy.testing import Simulator, url_of
from tests.support import site as sites
from tests.support import wire
from tests.support.site import Site
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

START = 1906531200.0
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


@pytest.fixture(scope="module", params=sites.ENGINES)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with sites.running(
        tmp_path_factory.mktemp("site"), request.param, "[plugins.live]\n"
    ) as running:
        yield running


def live(site: Site, number: int) -> Any:
    found = CliRunner().invoke(main, ["live", "--json", "-c", str(site.config(number))])
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def eventually(site: Site, expected: object, read: Callable[[Any], object]) -> None:
    """Wait until each server tells it."""
    for number in range(len(site.servers)):
        wait_until(lambda: read(live(site, number)) == expected)  # noqa: B023


def room(site: Site, name: str, *expected: int) -> None:
    """Wait until a service has so many people, Hosts and waiting ones."""
    eventually(site, expected, lambda told: tuple(told["services"].get(name, {}).values()))


def event(seq: int, kind: str, node: str = "10.0.0.1", /, **data: Any) -> dict[str, Any]:
    envelope = {"node": node, "seq": seq, "version": 2, "time": START + seq}
    return {**envelope, "event": kind, "data": data}


def bulk(*events: dict[str, Any]) -> dict[str, Any]:
    return {**event(0, "eventsink_bulk", "127.0.0.1"), "data": [*events]}


def test_a_participant_connects_waits_and_is_in(site: Site) -> None:
    assert site.post(0, event(1, "eventsink_started")) == 200
    assert site.post(1, event(2, "participant_connected", **CONNECTED)) == 200
    room(site, "812345678", 0, 0, 0)
    known = {"uuid": CONNECTED["uuid"], "connect_time": START + 1}
    update = event(3, "participant_updated", **known, service_type="waiting_room")
    assert site.post(0, update, wire.basic("sink", "wrong")) == 401
    assert site.post(0, b"{not JSON") == 400
    site.post(1, update)
    room(site, "812345678", 0, 0, 1)
    assert live(site, 0)["tenants"] == {"acme": {"participants": 0, "hosts": 0, "waiting": 1}}
    site.post(0, event(4, "participant_updated", **known, service_type="conference"))
    room(site, "812345678", 1, 1, 0)
    eventually(site, 1, lambda told: told["tenants"]["acme"]["participants"])


def test_bulk_twice_counts_once_and_a_gap_is_stale(site: Site) -> None:
    node = "10.0.0.7"
    present = {"service_type": "conference", "connect_time": START, "conference": "gap"}
    first = [event(n, "participant_connected", node, uuid=f"g{n}", **present) for n in (1, 2)]
    assert [site.post(n, bulk(*first)) for n in range(2)] == [200, 200]
    room(site, "gap", 2, 0, 0)
    site.post(0, event(5, "participant_connected", node, uuid="g5", **present))
    room(site, "gap", 3, 0, 0)
    eventually(site, True, lambda told: told["stale"])
    told = site.servers[0].operator("/plugins/live/stale").json["stale"]
    assert node in [one["node"] for one in told]
    end = {"conference": "gap", "uuid": "late"}
    site.post(1, event(9, "participant_disconnected", node, **end))
    site.post(0, event(8, "participant_connected", node, **present | end))
    site.post(1, event(10, "participant_disconnected", node, conference="gap", uuid="g5"))
    room(site, "gap", 2, 0, 0)


def test_a_person_counts_once_and_in_one_room(site: Site) -> None:
    node, other = "10.0.0.8", "10.0.0.9"
    present = {"service_type": "conference", "connect_time": START, "conversation_id": "web"}
    api = {**present, "conference": "one", "protocol": "API", "uuid": "api"}
    web = {**present, "conference": "one", "protocol": "WebRTC", "uuid": "web"}
    site.post(0, event(1, "participant_connected", node, **api))
    site.post(1, event(2, "participant_connected", node, **web))
    room(site, "one", 1, 0, 0)
    for number, name in enumerate((node, other)):
        site.post(number, event(3, "conference_started", name, name="two"))
    site.post(0, event(4, "participant_connected", node, **{**web, "conference": "two"}))
    room(site, "one", 0, 0, 0)
    room(site, "two", 1, 0, 0)
    site.post(1, event(5, "conference_ended", other, name="two"))
    site.post(0, event(5, "participant_updated", node, uuid="web", role="chair"))
    room(site, "two", 1, 1, 0)


def test_a_whole_platform_is_counted_while_it_is_asked(site: Site) -> None:
    platform = Simulator(random.Random(8), nodes=["10.1.0.1", "10.1.0.2"])
    people = [platform.join(f"hall{n % 4}", "webrtc", role="chair") for n in range(40)]
    for person in people[::3]:
        platform.leave(person)
    for person in people[1::3]:
        platform.move(person, "breakout")
    for number, request in enumerate(platform.requests):
        server = site.server(number)
        assert server.ask(str(url_of(request))).status == 200
    for number, body in enumerate(platform.deliver(repeat=0.2, delay=9, bulk=20).bodies):
        assert site.post(number, body) == 200
    for name, expected in platform.truth().items():
        room(site, name, *expected)
