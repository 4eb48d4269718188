"""Fields and words that this release does not know, and that an operator lists."""

from pathlib import Path
from typing import Any

import pytest

from pexpolicy import Conference, DecisionError, Gateway
from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.config.settings import ConfigError
from pexpolicy.conformance.replies import InvalidReplyError, Reply, read
from pexpolicy.models.contract import Extras
from pexpolicy.policy import Policy
from pexpolicy.testing import make_request
from tests.support import fake_plugins, installed, wire
from tests.support import upstream_servers as servers

INFINITY = {
    "extra_fields": ["disabled_codecs", "pin_hint"],
    "extra_values": {"outgoing_protocol": ["zoom"], "service_type": ["webinar"]},
}
EXTRAS = Extras(
    frozenset(INFINITY["extra_fields"]),
    {"outgoing_protocol": frozenset(["zoom"]), "service_type": frozenset(["webinar"])},
)
GATEWAY = {
    "service_type": "gateway",
    "name": "gw",
    "service_tag": "",
    "local_alias": "a",
    "remote_alias": "b",
    "outgoing_protocol": "zoom",
}
ROOM = {**servers.ROOM, "disabled_codecs": ["vp9"]}
WEBINAR = {"service_type": "webinar", "name": "Town hall", "service_tag": "", "pin_hint": "x"}
RESULTS = [GATEWAY, ROOM, WEBINAR]
ASKED = f"{wire.SERVICE}?call_direction=dial_in&protocol=sip&local_alias=a"


def policy(plugins: dict[str, Any], infinity: dict[str, Any] | None = None) -> Policy:
    document = {"plugins": plugins, "infinity": INFINITY if infinity is None else infinity}
    return build_policy(from_document(document, Path("config.toml")), available=installed.plugins())


def plugin(name: str, result: dict[str, Any], **table: Any) -> dict[str, Any]:
    rule = {"name": "r", "endpoint": "service_configuration", "then": {"result": result}}
    settings = {"rooms": {"rooms": {"a": result}}, "rules": {"rules": [rule]}}[name]
    return {name: {"settings": settings, **table}}


@pytest.mark.parametrize("name", ["rooms", "rules"])
@pytest.mark.parametrize("result", RESULTS)
async def test_what_is_listed_is_sent_with_a_warning(
    serving: fake_plugins.Serve, name: str, result: dict[str, Any]
) -> None:
    made = policy(plugin(name, result))
    assert any("[infinity] extra_" in str(warning) for warning in made.warnings)
    async with serving(made) as server:
        assert (await server.ask(ASKED)).result == result
    assert "[infinity] extra_" in str(server.lines()[-1]["warnings"])


@pytest.mark.parametrize("name", ["rooms", "rules"])
@pytest.mark.parametrize("result", RESULTS)
def test_what_is_not_listed_is_refused(name: str, result: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        policy(plugin(name, result), {})


async def test_a_plugin_in_a_process_of_its_own_sends_it_too(serving: fake_plugins.Serve) -> None:
    made = policy(plugin("rules", GATEWAY, isolation="process", processes=1))
    async with serving(made) as server:
        assert (await server.ask(ASKED)).result == GATEWAY


@pytest.mark.parametrize("result", [GATEWAY, WEBINAR])
async def test_an_upstream_that_sends_it_is_relayed(
    serving: fake_plugins.Serve, result: dict[str, Any]
) -> None:
    async with servers.answering(servers.always(servers.decided(result))) as target:
        routes = [
            {
                "targets": ["t"],
                "endpoints": ["service_configuration"],
                "override": {"disabled_codecs": ["vp9"]},
            }
        ]
        settings = {"targets": {"t": {"url": target.url}}, "routes": routes}
        async with serving(policy({"upstream": {"settings": settings}})) as server:
            reply = await server.ask(ASKED)
    assert reply.result == {**result, "disabled_codecs": ["vp9"]}


def test_without_it_the_reply_of_an_upstream_is_dropped() -> None:
    request = make_request("service_configuration")
    reply = Reply(0.1, 200, {"Content-Type": "application/json"}, _body(GATEWAY))
    with pytest.raises(InvalidReplyError, match="outgoing_protocol"):
        read("service_configuration", request, reply)
    heard = read("service_configuration", request, reply, extras=EXTRAS)
    assert heard.decision is not None


def _body(result: dict[str, Any]) -> bytes:
    return servers.decided(result).partition(b"\r\n\r\n")[2]


def test_other_rules_hold_as_ever() -> None:
    with pytest.raises(DecisionError, match="pin"):
        Conference.from_result({**ROOM, "pin": "12"}, extras=EXTRAS, strict=True)
    with pytest.raises(DecisionError, match="there is no field 'other'"):
        Conference.from_result({**ROOM, "other": 1}, extras=EXTRAS, strict=True)
    with pytest.raises(DecisionError, match="outgoing_protocol"):
        Gateway.from_result({**GATEWAY, "outgoing_protocol": "zom"}, extras=EXTRAS, strict=True)


@pytest.mark.parametrize(
    "infinity", [{"extra_fields": ["Not a name"]}, {"extra_values": {"view": [], "X": ["a"]}}]
)
def test_what_is_no_name_is_refused(infinity: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"infinity\.extra_"):
        policy({}, infinity)


@pytest.mark.parametrize(
    ("infinity", "pin", "warned"),
    [({}, "1234", True), ({}, "123456", False), ({"min_pin_length": 4}, "1234", False)],
)
def test_a_pin_that_infinity_may_find_too_short_is_warned_of(
    infinity: dict[str, Any], pin: str, warned: bool
) -> None:
    made = policy(plugin("rooms", {**servers.ROOM, "pin": pin}), infinity)
    assert any("min_pin_length" in str(warning) for warning in made.warnings) is warned
