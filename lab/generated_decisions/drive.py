"""Generated decisions through the real chain, each reply judged by the oracle."""

import asyncio
import random
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import orjson
from multidict import MultiDict, MultiDictProxy

from lab.batches import BATCH, Tally
from lab.generated_decisions.answers import answer
from pexpolicy.audit.audit_log import AuditLog
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


@dataclass
class Driver:
    """Drives one endpoint, or all of them, with what a seed makes."""

    seed: int
    tally: Tally = field(default_factory=Tally)
    _next: Any = None

    def run(self, count: int, endpoints: tuple[str, ...] = tuple(ENDPOINTS)) -> Tally:
        """As many decisions, spread over the endpoints."""
        asyncio.run(self._run(count, endpoints))
        return self.tally

    async def _run(self, count: int, endpoints: tuple[str, ...]) -> None:
        policy = fake_plugins.policy(
            {PLUGIN: fake_plugins.plugin(**{name: self._hook(name) for name in ENDPOINTS})},
            {PLUGIN: {"timeout": 4.0}},
            clock=lambda: 0.0,
        )
        audit = AuditLog(Lines())  # type: ignore[arg-type]
        async with policy.serving():
            for number, rng in self._seeds(count):
                endpoint = endpoints[number % len(endpoints)]
                self._next = rng
                text = await self._call(policy, endpoint, rng.choice(QUERIES[endpoint]), audit)
                if text:
                    self.tally.wrong.append(f"seed {self.seed} number {number} {endpoint}: {text}")

    def _seeds(self, count: int) -> Iterator[tuple[int, random.Random]]:
        """A source of chance for each decision, so that each can be made again alone."""
        for number in range(count):
            yield number, random.Random(f"{self.seed}/{number}")

    def _hook(self, endpoint: str) -> fake_plugins.Hook:
        async def hook(_: object) -> object:
            return answer(self._next, endpoint)

        return hook

    async def _call(
        self,
        policy: Policy,
        endpoint: str,
        query: dict[str, str],
        audit: AuditLog,
    ) -> str:
        """What is wrong with the answer to one call; nothing, if all is well."""
        params = MultiDictProxy(MultiDict(query))
        try:
            got = await policy.answer(ENDPOINTS[endpoint].parse(params, "alice"), "id")
            audit.write(
                audit.record(CallFacts(params=params, alias="alice", config_hash="0" * 16), got)
            )
        except Exception as error:  # noqa: BLE001 - every exception is a finding
            return f"raised {type(error).__name__}: {error}"
        (step,) = got.outcome.steps
        self.tally.count("steps", step.outcome)
        self.tally.count("replies", f"{got.reply.status} {got.reply.action}")
        return blamed(got) or broken(endpoint, urlencode(query), got)


def batch(seed: int) -> Tally:
    """A batch of decisions, for a process of its own."""
    warnings.simplefilter("ignore")
    return Driver(seed).run(BATCH)


def blamed(got: Answer) -> str:
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


def broken(endpoint: str, query: str, got: Answer) -> str:
    """What is wrong with the reply, as the oracle sees it."""
    reply = got.reply
    if reply.status not in (200, 404):
        return f"status {reply.status}"
    found = judge(endpoint, query, reply.status, reply.content_type, reply.body, alias="alice")
    fatal = [violation for violation in found if violation.fatal]
    return f"{fatal} in {reply.body[:500]!r}" if fatal else ""
