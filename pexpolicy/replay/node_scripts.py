"""The local policy scripts of a node, which follow each answer of a replay."""

from __future__ import annotations

import msgspec

from pexpolicy.conformance.disposition import read_envelope
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.explain.explanation import LocalPolicy
from pexpolicy.models.decision import Continue
from pexpolicy.models.extras import Extras
from pexpolicy.policy import Answer
from pexpolicy.replay.recorded_reply import RecordedReply, foreign_reply
from pexpolicy.replay.records import Call
from pexpolicy.replay.replay_policy import NO_ID, Replayed

DECIDED_BY = "local policy"
"""``decided_by`` of an answer that a script has changed."""
_CLOCK = "pex_now"


class NodeScripts:
    """Makes of our answer what the node makes of it."""

    def __init__(self, local_policy: LocalPolicy) -> None:
        self._local_policy = local_policy

    async def follow(self, call: Call, replayed: Replayed, extras: Extras) -> Replayed:
        """Return the answer that takes effect after the script, and what it depends on."""
        ours = replayed.answer
        request = ENDPOINTS[call.endpoint].parse(call.params, call.alias)
        decision = ours.outcome.decision
        found = await self._local_policy.after(call.endpoint, request, decision, call.at, extras)
        if found is None:
            return replayed
        names = self._local_policy.reads(call.endpoint)
        read = {name for name in (*call.missing, *call.hashed) if _reads(names, name)}
        final = ours
        if found.final is not None:
            reason = f"{found.script} after {ours.outcome.decided_by}"
            made = found.final.with_reason(reason)
            outcome = msgspec.structs.replace(ours.outcome, decision=made, decided_by=DECIDED_BY)
            reply = ENDPOINTS[call.endpoint].reply(made, outcome.decision_id, DECIDED_BY)
            final = Answer(outcome, reply)
        followed = Replayed(
            final,
            replayed.read | read,
            replayed.network,
            depends_on_time=replayed.depends_on_time or _CLOCK in names,
            ours=ours,
            verdict="" if found.unknown else f"{found.script}: {found.verdict}",
            unknown=f"{found.script}: {found.verdict}" if found.unknown else "",
        )
        followed.used = replayed.used
        return followed

    async def follow_reply(
        self, call: Call, reply: RecordedReply, extras: Extras
    ) -> RecordedReply | str:
        """Return the reply of another server as it takes effect after the script, or why that is
        not known.
        """
        request = ENDPOINTS[call.endpoint].parse(call.params, call.alias)
        body = {"status": "success", "action": reply.action, "result": reply.result}
        decision = read_envelope(call.endpoint, body, extras).decision or Continue()
        found = await self._local_policy.after(call.endpoint, request, decision, call.at, extras)
        if found is None or (found.final is None and not found.unknown):
            return reply
        if found.unknown or found.final is None:
            return f"{found.script}: {found.verdict}"
        made = ENDPOINTS[call.endpoint].reply(found.final, NO_ID, DECIDED_BY)
        followed = foreign_reply(call.endpoint, made.status, msgspec.json.decode(made.body))
        return followed._replace(decided_by=None, reason=None, is_ours=False)


def _reads(names: frozenset[str], parameter: str) -> bool:
    if parameter.startswith("idp_attribute"):
        return "idp_attributes" in names
    return parameter in names
