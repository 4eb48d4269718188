"""Servers in use: what the conformance test finds, and what the plugin ``upstream`` relays."""

import json
from typing import Any

import pytest
from aiohttp import web

from pexpolicy.conformance.findings import Level
from tests.conformance import servers
from tests.conformance.foreign_servers import SERVERS, ForeignServer
from tests.conformance.run_flows import found, run_flows
from tests.support import fake_plugins, wire
from tests.support.upstream_policies import policy

HTML = "the missing avatar is answered with an HTML page"
CALLS = (
    "web join, v39",
    "SIP before the PIN, v39",
    "H.323 call",
    "requests without a call",
    "registration",
    "odd values",
)
REFUSABLE = (wire.SERVICE, wire.PARTICIPANT, wire.REGISTRATION)
each_server = pytest.mark.parametrize("server", SERVERS, ids=lambda s: s.name.replace(" ", "-"))


def effect(target: str, status: int, body: bytes | None) -> tuple[str, Any]:
    """Read a reply as section 2 of the contract does, without the code that is tested."""
    try:
        reply = json.loads(body or b"") if status == 200 else {}
    except ValueError:
        reply = {}
    if not isinstance(reply, dict):
        return "fallback", None
    action, result = reply.get("action"), reply.get("result") or {}
    if action == "reject" and target.startswith(REFUSABLE):
        return "reject", result.get("reject_reason")
    succeeds = reply.get("status") == "success" and result
    return ("result", repaired(result)) if succeeds else ("fallback", None)


def repaired(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result with a boolean that was text, and a tag that was absent, repaired."""
    tag = {"service_tag": ""} if "service_type" in result else {}
    return tag | {name: True if value == "true" else value for name, value in result.items()}


@each_server
async def test_each_fault_is_found_and_no_other(server: ForeignServer) -> None:
    async with servers.serving(server) as url:
        findings = found(await run_flows(url), *Level)
    unexpected = {
        (finding.level, finding.text)
        for finding in findings
        if not any(finding.level is level and part in finding.text for level, part in server.faults)
    }
    assert unexpected == set()
    for level, part in server.faults:
        assert any(f.level is level and part in f.text for f in findings), part


@each_server
async def test_rejects_and_valid_results_are_relayed(
    server: ForeignServer, serving: fake_plugins.Serve
) -> None:
    replies: list[web.Response] = []

    def record(question: servers.Question) -> web.StreamResponse:
        replies.append(server(question))
        return replies[-1]

    seen = set()
    async with servers.serving(record) as url, serving(policy({"theirs": url})) as relay:
        for step in await run_flows(url, CALLS):
            relayed = await relay.ask(step.target)
            theirs = effect(step.target, replies[-1].status, replies[-1].body)  # type: ignore[arg-type]
            ours = effect(step.target, relayed.status, relayed.body)
            seen.add(theirs[0])
            if ours != theirs:
                assert (theirs[0], ours[0]) == ("result", "fallback"), step
                assert server.lost, step
                assert server.lost in relay.details()
    assert seen == server.effects
