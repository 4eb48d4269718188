"""Generated decisions through the real chain, each reply judged by the oracle."""

import asyncio
import random
import warnings
from urllib.parse import urlencode

import orjson
from multidict import MultiDict, MultiDictProxy

from lab.batches import BATCH, Tally
from lab.generated_decisions.answers import answer
from pexpolicy.audit.audit_log import AuditLog
from pexpolicy.audit.redaction import Redaction
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.outcome import DEFAULT
from pexpolicy.models.request import CallFacts
from pexpolicy.policy import Answer, Policy
from tests.support import fake_plugins
from tests.support.oracle import judge

PLUGIN = "anything"
OUTCOMES = ("decided", "abstained", "invalid")
CALL = {"call_direction": "dial_in", "protocol": "sip", "local_alias": "sip:room@example.com"}
QUERIES: dict[str, tuple[dict[str, str], ...]] = {
    "service_configuration": (
        CALL,
        {},
        {**CALL, "protocol": "webrtc"},
        {**CALL, "call_direction": "dial_out", "service_name": "Room", "service_tag": "t"},
        {**CALL, "call_direction": "non_dial"},
        {**CALL, "breakout_uuid": "3e4e1bd9-7439-4c53-8ca2-6ef1a8e34cfc"},
    ),
    "participant_properties": (
        CALL,
        {**CALL, "remote_display_name": "Alice"},
        {**CALL, "remote_display_name": "", "participant_type": "api"},
    ),
    "media_location": (CALL, {}),
    "participant_avatar": (
        CALL,
        {"width": "40", "height": "40"},
        {"width": "17"},
        {"width": "0", "height": "40"},
        {"width": "999999", "height": "1"},
        {"width": "many", "height": ""},
    ),
    "directory_information": ({"q": "a", "limit": "10"}, {"limit": "0"}, {"limit": "3"}, {}),
    "registration_alias": ({}, {"auth_type": '"credentials"'}, {"auth_type": "sso"}),
}


class Lines:
    """Takes what the audit writes; each line is whole JSON."""

    def record(self, line: bytes) -> None:
        assert b"\n" not in line
        orjson.loads(line)


def batch(seed: int) -> Tally:
    """A batch of decisions, for a process of its own."""
    warnings.simplefilter("ignore")
    return asyncio.run(_batch(seed))


async def _batch(seed: int) -> Tally:
    tally, rng = Tally(), random.Random()

    def hook(endpoint: str) -> fake_plugins.Hook:
        async def decide(_: object) -> object:
            return answer(rng, endpoint)

        return decide

    plugin = fake_plugins.plugin(**{name: hook(name) for name in ENDPOINTS})
    policy = fake_plugins.policy({PLUGIN: plugin}, {PLUGIN: {"timeout": 4.0}}, clock=lambda: 0.0)
    audit = AuditLog(Lines(), Redaction())  # type: ignore[arg-type]
    endpoints = tuple(ENDPOINTS)
    async with policy.serving():
        for number in range(BATCH):
            rng.seed(f"{seed}/{number}")  # so that each can be made again alone
            endpoint = endpoints[number % len(endpoints)]
            text = await _call(policy, endpoint, rng.choice(QUERIES[endpoint]), audit, tally)
            if text:
                tally.wrong.append(f"seed {seed} number {number} {endpoint}: {text}")
    return tally


async def _call(
    policy: Policy, endpoint: str, query: dict[str, str], audit: AuditLog, tally: Tally
) -> str:
    """What is wrong with the answer to one call; nothing, if all is well."""
    params = MultiDictProxy(MultiDict(query))
    try:
        got = await policy.answer(ENDPOINTS[endpoint].parse(params, "alice"), "id")
        audit.write(audit.record(CallFacts(policy_hash="0" * 16), got))
    except Exception as error:  # noqa: BLE001 - every exception is a finding
        return f"raised {type(error).__name__}: {error}"
    (step,) = got.outcome.steps
    tally.count("steps", step.outcome)
    tally.count("replies", f"{got.reply.status} {got.reply.action}")
    return _blamed(got) or _broken(endpoint, urlencode(query), got)


def _blamed(got: Answer) -> str:
    """What is wrong with the step; each refusal is that of the plugin."""
    (step,) = got.outcome.steps
    if step.plugin != PLUGIN or step.outcome not in OUTCOMES:
        return f"step {step}"
    decided = step.outcome == "decided"
    if got.outcome.decided_by != (PLUGIN if decided else DEFAULT):
        return f"{step} and decided by {got.outcome.decided_by}"
    if step.outcome == "invalid" and not 20 < len(step.detail) < 2000:
        return f"the refusal has {len(step.detail)} characters"
    return ""


def _broken(endpoint: str, query: str, got: Answer) -> str:
    """What is wrong with the reply, as the oracle sees it."""
    reply = got.reply
    if reply.status not in (200, 404):
        return f"status {reply.status}"
    found = judge(endpoint, query, reply.status, reply.content_type, reply.body, alias="alice")
    fatal = [violation for violation in found if violation.fatal]
    return f"{fatal} in {reply.body[:500]!r}" if fatal else ""
