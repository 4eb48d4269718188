"""Section 2 of the contract as a table of its own: it shares no code with what it judges.

What Infinity does with a reply, by status, action and result.
"""

from lab.foreign_replies.samples import NOTHING, Sample

REJECTING = ("service_configuration", "participant_properties", "registration_alias")
"""Requests whose reply may refuse."""
TAKEN = ("used", "text boolean")
"""Results that Infinity uses; a text boolean is repaired on the way, and undoes no reject."""


def expected(sample: Sample) -> str:
    """What becomes of a reply: ``result``, ``continue``, ``reject``, ``redirect``, ``fallback`` for
    a server that failed, ``dropped`` for what no relay may pass on, ``open`` for credentials that
    let anybody register.
    """
    return _succeeded(sample) if sample.succeeds else _failed(sample)


def _failed(sample: Sample) -> str:
    if sample.action == "reject" and sample.endpoint in REJECTING:
        return "reject"
    return "fallback" if sample.kind in (*NOTHING, "ignoring", "falsy") else "dropped"


def _succeeded(sample: Sample) -> str:
    if sample.endpoint in REJECTING and sample.action == "reject":
        # Of a participant the contract says: follow the action.
        decides = sample.endpoint == "participant_properties"
        contradicts = sample.kind in ("used", "open") and not decides
        return "dropped" if contradicts else "reject"
    redirects = sample.endpoint == "service_configuration" and sample.action == "redirect"
    if redirects and sample.kind not in TAKEN:
        return "redirect" if sample.kind == "alias" else "dropped"
    if sample.kind in NOTHING or sample.body.get("result") == {"reject_reason": None}:
        goes_on = sample.endpoint not in REJECTING or _goes_on(sample)
        return "continue" if goes_on else "dropped"
    if sample.kind in (*TAKEN, "ignoring"):
        return "result"
    if sample.kind == "message" and sample.endpoint == "participant_properties":
        return "result"
    return "open" if sample.kind == "open" else "dropped"


def _goes_on(sample: Sample) -> bool:
    return "action" not in sample.body or sample.action in (None, "continue")
