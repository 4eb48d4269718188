"""What rules decide at each of the six endpoints."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pexpolicy import Request
from pexpolicy.testing import decide_sync, make_request
from pexpolicy_rules import Rules
from pexpolicy_rules.settings import Settings

Build = Callable[..., Rules]
LOBBY = {"local_alias": "lobby@example.com"}


def rule(name: str, endpoint: Any, then: Any, **when: Any) -> dict[str, Any]:
    return {"name": name, "endpoint": endpoint, "then": then, "when": when}


def room(name: str = "Lobby", **fields: Any) -> dict[str, Any]:
    return {"result": {"name": name, **fields}}


CALL = make_request("service_configuration", local_alias="sip:Lobby@Example.com")
JOIN = make_request(
    "participant_properties", remote_display_name="Ada", idp_attributes={"team": ["blue", "red"]}
)


@pytest.mark.parametrize(
    ("endpoint", "then", "request_", "body"),
    [
        ("service_configuration", room(), CALL, '"name":"Lobby","service_tag":"",'),
        (
            "service_configuration",
            room(service_type="lecture", pin="1234", allow_guests=True),
            CALL,
            '"service_type":"lecture"',
        ),
        ("service_configuration", "reject", CALL, '"action":"reject"'),
        ("service_configuration", "continue", CALL, '"action":"continue"'),
        (
            "service_configuration",
            {"action": "redirect", "new_alias": "sip:desk@example.com"},
            CALL,
            '"action":"redirect","result":{"new_alias":"sip:desk@example.com"}',
        ),
        (
            "participant_properties",
            {"result": {"preauthenticated_role": "chair"}},
            JOIN,
            '"preauthenticated_role":"chair"',
        ),
        (
            "participant_properties",
            {"action": "reject", "reject_reason": "Ask the desk."},
            JOIN,
            '"action":"reject","result":{"reject_reason":"Ask the desk."}',
        ),
        (
            "media_location",
            {"result": {"location": "Oslo", "overflow_locations": ["Bergen"]}},
            make_request("media_location"),
            '"location":"Oslo","overflow_locations":["Bergen"]',
        ),
        (
            "directory_information",
            {"result": {"entries": [{"alias": "a@example.com", "description": "Ada"}]}},
            make_request("directory_information", q="a"),
            '"alias":"a@example.com"',
        ),
        (
            "registration_alias",
            {"result": {"username": "desk", "password": "a password"}},
            make_request("registration_alias"),
            '"username":"desk"',
        ),
        ("registration_alias", "reject", make_request("registration_alias"), '"action":"reject"'),
    ],
)
def test_each_endpoint_gets_its_kind_of_decision(
    rules: Build, endpoint: str, then: Any, request_: Request, body: str
) -> None:
    outcome = decide_sync(rules(rule("one", endpoint, then)), request_)
    assert outcome.steps[0].outcome == "decided", outcome.steps[0].detail
    assert outcome.decision.reason == "rule one"
    from pexpolicy.endpoints import ENDPOINTS  # noqa: PLC0415 - what leaves is its business

    assert body in ENDPOINTS[endpoint].reply(outcome.decision, "id", "rules").body.decode()


def test_a_picture_is_read_when_the_plugin_is_built(tmp_path: Path) -> None:
    image = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(image, "PNG")
    (tmp_path / "red.png").write_bytes(image.getvalue())
    written = {"rules": [rule("red", "participant_avatar", {"image": "red.png"})]}
    settings = Settings.model_validate(written, context={"root": tmp_path})
    plugin = Rules(settings)
    (tmp_path / "red.png").unlink()
    outcome = decide_sync(plugin, make_request("participant_avatar", width=8, height=8))
    assert outcome.decided_by == "rules"
    assert list(plugin.tracked_files()) == [tmp_path / "red.png"]


def test_the_first_rule_that_matches_decides(rules: Build) -> None:
    plugin = rules(
        rule("not this one", "service_configuration", "reject", vendor="none of these"),
        rule("this one", "service_configuration", room("First"), **LOBBY),
        rule("too late", "service_configuration", room("Second"), **LOBBY),
    )
    outcome = decide_sync(plugin, CALL)
    assert outcome.decision.reason == "rule this one"
    assert plugin.status()["this one"] == {"hits": 1, "last_hit": "2026-01-15T12:00:00+00:00"}
    assert plugin.status()["too late"] == {"hits": 0, "last_hit": None}


def test_a_rule_that_abstains_keeps_later_rules_from_deciding(rules: Build) -> None:
    plugin = rules(
        rule("not ours", "service_configuration", "abstain", **LOBBY),
        rule("all", "service_configuration", "reject"),
    )
    assert decide_sync(plugin, CALL).decided_by == "default"
    assert plugin.status()["not ours"] == {"hits": 1, "last_hit": "2026-01-15T12:00:00+00:00"}


def test_a_rule_that_is_not_enabled_is_not_asked(rules: Build) -> None:
    plugin = rules({**rule("off", "service_configuration", "reject"), "enabled": False})
    assert decide_sync(plugin, CALL).decided_by == "default"


def test_one_rule_may_stand_for_several_endpoints(rules: Build) -> None:
    plugin = rules(rule("both", ["service_configuration", "participant_properties"], "reject"))
    assert decide_sync(plugin, CALL).decision.action == "reject"
    assert decide_sync(plugin, JOIN).decision.action == "reject"
    assert decide_sync(plugin, make_request("media_location")).decided_by == "default"


def test_times_follow_the_clock(rules: Build) -> None:
    now = 0.0
    day = {"zone": "UTC", "between": ["08:00", "17:00"]}
    plugin = rules(
        rule("day", "service_configuration", room("Day"), time=day),
        rule("night", "service_configuration", room("Night")),
        now=lambda: now,
    )
    assert decide_sync(plugin, CALL).decision.reason == "rule night"
    now = 9 * 3600.0
    assert decide_sync(plugin, CALL).decision.reason == "rule day"
