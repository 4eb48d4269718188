"""Rules behind the real server: what comes over the wire, and who sent it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from pexpolicy.testing import client
from pexpolicy_rules import Rules

Build = Callable[..., Rules]
PATH = "/policy/v1/service/configuration"
LONG = 8000
"""Characters; a request line has 8,190 at most."""


def rule(name: str, **when: Any) -> dict[str, Any]:
    then = {"result": {"name": name, "service_tag": "x"}}
    return {"name": name, "endpoint": "service_configuration", "when": when, "then": then}


async def asked(plugin: Rules, query: str) -> dict[str, Any]:
    async with client(plugin) as http:
        reply = await http.get(f"{PATH}?{query}")
        assert reply.status == 200
        answer: dict[str, Any] = json.loads(await reply.read())
        return answer


async def test_the_peer_is_the_client_address(rules: Build) -> None:
    plugin = rules(
        rule("elsewhere", peer="192.0.2.1"), rule("here", peer={"in_subnet": "127.0.0.0/8"})
    )
    assert (await asked(plugin, "local_alias=a"))["result"]["name"] == "here"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("local_alias=sip%3AMeet%2EBob%40Example.com%3A5060", "meet"),
        ("local_alias=meet.bob%40example.com&local_alias=other", "meet"),
        ("local_alias=%FF%FEmeet", None),
        ("local_alias=" + "%2B47" * 1000, None),
        (f"local_alias={'a' * LONG}@example.com", "long"),
        (f"local_alias={'b' * LONG}!", None),
        ("local_alias=x&idp_attribute_g=1&odd=a&odd=b", "odd"),
        ("local_alias=x&odd=a", None),
        ("", None),
    ],
)
async def test_whatever_is_sent_is_matched_or_left_to_others(
    rules: Build, query: str, expected: str | None
) -> None:
    plugin = rules(
        rule("meet", local_alias="meet.bob@example.com"),
        rule("long", local_alias={"regex": "(a|aa)+@example\\.com"}),
        rule("odd", params={"odd": "b"}),
    )
    answer = await asked(plugin, query)
    assert answer.get("result", {}).get("name") == expected
    assert answer["decided_by"] == ("rules" if expected else "default")


async def test_a_rule_that_rejects_sends_no_result(rules: Build) -> None:
    refusing = {**rule("no"), "then": {"action": "reject", "reason": "because"}}
    answer = await asked(rules(refusing), "local_alias=a")
    assert answer["action"] == "reject"
    assert answer["reason"] == "rule no: because"
    assert "result" not in answer
