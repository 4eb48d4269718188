"""The configuration of a whole company in examples/full: calls walked through it over HTTP."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.support import forked, live_server, wire

EXAMPLE = live_server.ROOT / "examples" / "full"
BOOKINGS = "http://127.0.0.1:8001"

WEB = {
    "call_direction": "dial_in",
    "protocol": "api",
    "vendor": "Mozilla/5.0 Webapp3/11.0.0+22eb91946",
    "trigger": "web",
    "remote_display_name": "Dana",
    "remote_alias": "Dana",
    "remote_address": "10.2.3.237",
    "location": "Bergen",
    "local_alias": "board@example.com",
}


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live_server.Running]:
    """The example as it is shipped, with its audit in a file, and its other server."""
    folder = tmp_path_factory.mktemp("full") / "example"
    shutil.copytree(EXAMPLE, folder)
    with live_server.running(folder / "bookings.toml") as bookings:
        config = live_server.with_audit(EXAMPLE / "config.toml", folder)
        written = config.read_text()
        assert BOOKINGS in written
        config.write_text(written.replace(BOOKINGS, bookings.url))
        with live_server.running(config) as server:
            yield server


def asked(
    company: live_server.Running, target: str, call: dict[str, str], **more: str
) -> wire.Reply:
    return company.ask(f"{target}?{urlencode({**call, **more})}")


def test_check_finds_nothing_to_say(tmp_path: Path) -> None:
    config = shutil.copytree(EXAMPLE, tmp_path / "full") / "config.toml"
    config.chmod(0o600)
    said = forked.run("check", "--config", str(config))
    assert (said.returncode, said.stderr) == (0, "")
    assert f"{config}: valid (" in said.stdout
    assert "warning" not in said.stdout


def test_a_web_join(company: live_server.Running) -> None:
    first, again = (asked(company, wire.SERVICE, WEB) for _ in range(2))
    assert first.result == again.result
    assert first.result["name"] == "Board"
    assert first.result["pin"]
    assert first.result["guest_pin"]
    named = {"service_name": first.result["name"], "service_tag": first.result["service_tag"]}
    for kind, protocol in (("api", "api"), ("standard", "webrtc")):
        joining = {**WEB, **named, "participant_type": kind, "protocol": protocol}
        properties = asked(company, wire.PARTICIPANT, joining, preauthenticated_role="chair")
        assert (properties.status, properties.action) == (200, "continue")
        assert not properties.result
    media = asked(company, wire.LOCATION, {**WEB, **named}, protocol="webrtc")
    assert media.result == {"location": "Bergen", "overflow_locations": ["Oslo"]}
    assert media.json["reason"] == "remote_address is in 10.2.0.0/16"
    avatar = asked(company, wire.AVATAR + "Dana", {**WEB, **named}, width="40", height="40")
    assert avatar.status == 404


def test_a_room_of_the_booking_system(company: live_server.Running) -> None:
    call = {**WEB, "local_alias": "breakfast@bookings.example.com"}
    reply = asked(company, wire.SERVICE, call)
    assert (reply.result["name"], reply.json["decided_by"]) == ("Breakfast", "upstream")
    assert reply.json["reason"].startswith("answered by bookings")
    unknown = asked(company, wire.SERVICE, {**call, "local_alias": "lunch@bookings.example.com"})
    assert (unknown.action, unknown.result) == ("continue", None)


def test_the_probe_finds_nothing_wrong(company: live_server.Running) -> None:
    said = forked.run("conformance", company.url)
    assert said.returncode == 0, said.stdout + said.stderr


def test_each_call_left_a_line_and_no_pin(company: live_server.Running) -> None:
    before = len(company.lines())
    decision = asked(company, wire.SERVICE, WEB).json["decision_id"]
    (line,) = company.lines()[before:]
    assert line["decision_id"] == decision
    assert not {"482913", "170356"} & set(company.audit.read_text().split('"'))
