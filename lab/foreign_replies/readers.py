"""The three readers of foreign replies: ``upstream``, conformance, and import of rules."""

import json
import random
from collections.abc import Collection
from typing import Any

from lab.batches import BATCH, Tally
from lab.foreign_replies.contract import expected
from lab.foreign_replies.samples import Sample, sample
from pexpolicy import Continue, ParticipantProperties, Redirect, Reject
from pexpolicy.conformance.findings import SentRequest
from pexpolicy.conformance.replies import InvalidReplyError, Reply, judge, read
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.models.contract import contract_of
from pexpolicy.testing import make_request
from pexpolicy_importers.policy_router import convert_reply

REQUESTS = {name: make_request(name) for name in ENDPOINTS}
JSON = {"Content-Type": "application/json"}
UNKNOWN = "x_unknown"
"""A field that only the import leaves out, as Infinity knows no such field."""


def by_upstream(sample: Sample, reply: Reply) -> tuple[str, Any]:
    """What the plugin ``upstream`` makes of a reply."""
    try:
        reading = read(sample.endpoint, REQUESTS[sample.endpoint], reply)
    except InvalidReplyError:
        return "dropped", None
    if reading.decision is None:
        return "fallback", None
    for kind, action in ((Continue, "continue"), (Reject, "reject"), (Redirect, "redirect")):
        if isinstance(reading.decision, kind):
            return action, None
    fields = reading.decision.set_fields()
    listed = sample.endpoint == "directory_information"
    return "result", fields["entries"] if listed else fields


def by_conformance(sample: Sample, reply: Reply) -> str:
    """What the conformance test makes of a reply."""
    judged = judge(SentRequest(sample.endpoint, {}), reply, 5.0)
    if judged.reading is None:
        return "unread"
    disposition = judged.reading.disposition.value
    if disposition == "dropped":
        return disposition if judged.broken else "dropped without a violation"
    if disposition == "reject" and not sample.succeeds:
        reported = any("Infinity refuses the call" in finding.text for finding in judged.findings)
        return disposition if reported else "a reject that is not reported"
    if disposition == "result" and judged.reading.decision is None:
        return "open"
    return "fallback" if disposition == "abstain" else disposition


def by_import(sample: Sample) -> tuple[str, Any]:
    """What the import of rules makes of a reply that it finds."""
    try:
        then = convert_reply(json.dumps(sample.body), sample.endpoint, [])
    except ValueError:
        return "dropped", None
    return ("result", then["result"]) if "result" in then else (then["action"], None)


def disagreement(sample: Sample) -> str:
    """Who reads a reply as something else than the contract, or nothing."""
    wanted = expected(sample)
    reply = Reply(0.1, 200, JSON, json.dumps(sample.body).encode())
    relayed, fields = by_upstream(sample, reply)
    # No plugin lets anybody register because another server says so.
    if relayed != ("dropped" if wanted == "open" else wanted):
        return f"upstream: {relayed}, not {wanted}: {sample}"
    meant = sample.meant or []
    if relayed == "result" and sample.kind != "message" and fields != meant:
        return f"upstream: {fields}: {sample}"
    if (probed := by_conformance(sample, reply)) != wanted:
        return f"conformance: {probed}, not {wanted}: {sample}"
    if sample.endpoint in ("service_configuration", "participant_properties"):
        return _of_import(sample, wanted)
    return ""


def _known_names(sample: Sample) -> Collection[str]:
    """The fields that a rule may hold: the import leaves out what Infinity does not know."""
    kinds = SERVICE_TYPES.values() if sample.endpoint == "service_configuration" else ()
    return {"service_type", *contract_of(ParticipantProperties).names}.union(
        *(contract_of(kind).names for kind in kinds)
    )


def _of_import(sample: Sample, wanted: str) -> str:
    imported, fields = by_import(sample)
    known = "action" not in sample.body or sample.action in (None, "continue")
    if wanted == "fallback":
        # A word that is no action is asked about, where somebody is there to answer.
        wanted = "continue" if known else "dropped"
    if imported != wanted:
        return f"import: {imported}, not {wanted}: {sample}"
    if imported == "result" and sample.kind != "message":
        model = _known_names(sample)
        meant = {n: value for n, value in sample.meant.items() if value is not None and n in model}
        return "" if fields == meant else f"import: {fields}: {sample}"
    return ""


def batch(seed: int, size: int = BATCH) -> Tally:
    """Read as many replies of one seed."""
    rng, tally = random.Random(seed), Tally()
    for _ in range(size):
        made = sample(rng)
        tally.count("replies", expected(made))
        if text := disagreement(made):
            tally.wrong.append(text)
    return tally
