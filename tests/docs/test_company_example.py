"""The company in examples/company, at a small size, with real servers."""

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from examples.company import start
from tests.support import live_server, programs

pytestmark = [programs.needs_compiled("python-ldap"), pytest.mark.slow]

DEVICE = start._device(3)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live_server.Running]:
    folder = tmp_path_factory.mktemp("company")
    with start.company(folder, rooms=20, people=130, devices=10) as config:
        assert "warning" not in start.run("check", "--strict", folder=folder)
        with live_server.running(config, folder=folder) as server:
            yield server


def asked(company: live_server.Running, target: str, **params: str) -> str:
    reply = company.ask(f"/policy/v1/{target}?{urlencode(params)}")
    return reply.body.decode("latin-1")


def test_each_endpoint_answers_from_its_data(company: live_server.Running) -> None:
    call = {"call_direction": "dial_in", "protocol": "sip"}
    room = asked(company, "service/configuration", local_alias="sip:ROOM7@example.com", **call)
    assert '"name":"Room 7"' in room
    device = f"registrations/{DEVICE['alias'].lower()}"
    assert DEVICE["password"] in asked(company, device, protocol="sip", auth_type="credentials")
    unknown = asked(company, "registrations/nobody@example.com", protocol="sip")
    assert '"action":"reject"' in unknown
    found = asked(company, "registrations", q="", limit="100")
    assert found.count("Person") == 100
    named = {"remote_alias": "sip:device3@example.com", "local_alias": "room7@example.com"}
    properties = asked(company, "participant/properties", **call, **named)
    assert f'"remote_display_name":"{DEVICE["username"]}"' in properties
    location = asked(company, "participant/location", **call, **named, remote_address="10.2.0.9")
    assert '"location":"Bergen"' in location
    for number, source in ((start.PICTURED, "a picture from source"), (8, "initials")):
        alias = f"participant/avatar/person{number}@example.com"
        assert asked(company, alias, width="40", height="40").startswith("\xff\xd8")
        assert source in company.last_line()["reason"]


def test_conformance_is_clean(company: live_server.Running) -> None:
    start.run("conformance", company.url, folder=start.HERE)
