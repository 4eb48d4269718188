"""The check of the envelope of a JSON reply: status, action, and whether they fit the result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pexpolicy.conformance.disposition import (
    ACTIONS,
    REDIRECTED_SERVICE,
    Disposition,
    Reading,
    is_used,
    read_envelope,
    without_null,
    wrong_shape,
)
from pexpolicy.conformance.findings import (
    CheckResult,
    Finding,
    SentRequest,
    Topic,
    fallback,
    violation,
    warning,
)
from pexpolicy.conformance.repairs import repaired
from pexpolicy.conformance.result import from_issue, from_warning, judge_result
from pexpolicy.models.alias import Alias
from pexpolicy.models.decision import Redirect, Reject
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.rules import Confidence
from pexpolicy.text import brief

FAILED = ("fail", "failed", "failure", "error")
"""Values of ``status`` of a server that has no decision."""

Envelope = Mapping[str, Any]


OUTSIDE: Mapping[str, tuple[str, ...]] = {
    "service_configuration": ("service_type",),
    "participant_properties": ("preauthenticated_role", "bypass_lock", "reject_reason"),
    "media_location": ("location",),
    "directory_information": ("entries", "contacts"),
    "registration_alias": ("username", "password"),
}
"""Fields that belong to the result, and have no other meaning in a reply."""


def judge_envelope(asked: SentRequest, body: Envelope) -> CheckResult:
    """Return the findings about a reply with status 200, and how Infinity reads it."""
    reading = read_envelope(asked.endpoint, body, asked.extras)
    judged = _status_and_result(asked, body, reading)
    found = _action(asked, body, reading) + judged.findings + _outside(asked, body, reading)
    if reading.disposition is Disposition.DROPPED and not CheckResult(found).broken:
        found.append(violation(Topic.RESULT, reading.text, Confidence.TRANSCRIBED))
    return CheckResult(found, comparable(asked, body, reading), judged.service, reading)


def _status_and_result(asked: SentRequest, body: Envelope, reading: Reading) -> CheckResult:
    """Return the findings about status and result, and the service."""
    if body.get("status") != "success":
        return CheckResult(_failed(body, reading))
    if (shape := _shape(asked, body)) is not None:
        return CheckResult([shape])
    action, result = body.get("action"), body.get("result")
    if asked.endpoint == "participant_avatar":
        no_picture = warning(
            Topic.AVATAR, "if there is no picture, answer 404", Confidence.DOCUMENTED
        )
        wrong = violation(Topic.AVATAR, reading.text, Confidence.TRANSCRIBED)
        return CheckResult([wrong if result else no_picture])
    if action == "reject" and asked.endpoint in ACTIONS:
        return CheckResult(_reject(asked, body, reading))
    redirects = action == "redirect" or "new_alias" in without_null(result)
    if asked.endpoint == "service_configuration" and redirects:
        return CheckResult(_redirect(asked, action, result, reading))
    return _result(asked, body, reading)


def _result(asked: SentRequest, body: Envelope, reading: Reading) -> CheckResult:
    if not reading.repairs:
        return judge_result(asked, body)
    made, _ = repaired(asked.endpoint, body)
    judged = judge_result(asked, made)
    repairs = [from_warning(text) for text in reading.repairs]
    return CheckResult(repairs + judged.findings, service=judged.service)


def _outside(asked: SentRequest, body: Envelope, reading: Reading) -> list[Finding]:
    """Return a warning if fields of a result are next to it, where Infinity does not read them."""
    names = [name for name in OUTSIDE.get(asked.endpoint, ()) if name in body]
    if reading.disposition is not Disposition.CONTINUE or not names:
        return []
    text = f"{brief(names[0])} is not in the result, so Infinity ignores it"
    return [warning(Topic.RESULT, text, Confidence.DOCUMENTED)]


def comparable(asked: SentRequest, body: Envelope, reading: Reading) -> tuple[Any, ...]:
    """Return what Infinity reads of a reply, without the keys of the server's own."""
    if reading.disposition in (Disposition.CONTINUE, Disposition.ABSTAIN):
        return ("continue",)
    action: Any = body.get("action")
    result: Any = body.get("result")
    if reading.disposition is not Disposition.DROPPED:
        result = reading.result
        named = reading.disposition in (Disposition.REJECT, Disposition.REDIRECT)
        action = reading.disposition.value if named else None
    ignore_local = body.get("ignore_local") if asked.endpoint == "directory_information" else None
    core = {"action": action, "result": result or None, "ignore_local": ignore_local}
    return ("decision", json.dumps(core, sort_keys=True))


def _action(asked: SentRequest, body: Envelope, reading: Reading) -> list[Finding]:
    action, allowed = body.get("action"), ACTIONS.get(asked.endpoint, ())
    if action is None or action in allowed or action == "continue":
        return []
    if not allowed and action in ("reject", "redirect"):
        text = f"this request has no action {action}: Infinity would ignore it"
        return [violation(Topic.ACTION, text, Confidence.TRANSCRIBED)]
    if not allowed:
        text = f"this request has no action; {brief(action)} is ignored"
        return [warning(Topic.ACTION, text, Confidence.REPORTED)]
    text = f"action = {brief(action)} is not one of {', '.join(allowed)}"
    if reading.disposition is Disposition.RESULT and is_used(asked.endpoint, reading):
        text += "; it is ignored next to a valid result"
        return [warning(Topic.ACTION, text, Confidence.DOCUMENTED)]
    return [violation(Topic.ACTION, text, Confidence.DOCUMENTED)]


def _failed(body: Envelope, reading: Reading) -> list[Finding]:
    status = body.get("status")
    described = f"status = {brief(status)}" if "status" in body else "there is no status"
    if other := next((name for name in body if name != "status" and name.lower() == "status"), ""):
        described += f" (names of keys are in lower case, and not {brief(other)})"
    exact = "; only the exact text 'success' counts"
    if reading.disposition is Disposition.REJECT:
        known = status in FAILED
        text = ", and action = 'reject' still counts: Infinity refuses the call"
        text = described + ("" if known else exact) + text
        return [(warning if known else violation)(Topic.ENVELOPE, text, Confidence.DOCUMENTED)]
    if reading.disposition is Disposition.DROPPED:
        return [violation(Topic.ENVELOPE, reading.text, Confidence.DOCUMENTED)]
    text = (
        f"{described}{exact}, so Infinity uses its own database. If that is meant, a 404 is clearer"
    )
    return [fallback(Topic.ENVELOPE, text, Confidence.DOCUMENTED)]


def _shape(asked: SentRequest, body: Envelope) -> Finding | None:
    """Return a finding for a result of the wrong type."""
    result = body.get("result")
    if result is None or result in ({}, []):
        return None
    text = wrong_shape(asked.endpoint, result)
    return violation(Topic.RESULT, text, Confidence.TRANSCRIBED) if text else None


def _reject(asked: SentRequest, body: Envelope, reading: Reading) -> list[Finding]:
    """Check a reject: it refuses only if there is no usable result."""
    result = body.get("result") or {}
    if asked.endpoint == "registration_alias" and "result" not in body:
        text = "a reject of a registration needs an empty result"
        return [violation(Topic.REJECT, text, Confidence.TRANSCRIBED)]
    if asked.endpoint == "participant_properties":
        return _participant_reject(result)
    if not result:
        return []
    if reading.disposition is Disposition.DROPPED:
        return [violation(Topic.REJECT, reading.text, Confidence.DOCUMENTED)]
    text = "Infinity drops the result of a reject, or uses it and does not reject; leave it out"
    return [warning(Topic.REJECT, text, Confidence.REPORTED)]


def _participant_reject(result: Mapping[str, Any]) -> list[Finding]:
    others = sorted(result.keys() - {"reject_reason"})
    if others:
        text = (
            f"{brief(others[0])} in the result of a reject: nothing but reject_reason may be there"
        )
        return [violation(Topic.REJECT, text, Confidence.TRANSCRIBED)]
    try:
        Reject.from_result(result)
    except DecisionError as error:
        return [from_issue(error.refusal, Topic.REJECT)]
    return []


def _redirect(asked: SentRequest, action: Any, result: Any, reading: Reading) -> list[Finding]:
    result = result or {}
    if action != "redirect" or "service_type" in without_null(result):
        mark = Confidence.DOCUMENTED if action == "redirect" else Confidence.TRANSCRIBED
        return [violation(Topic.REDIRECT, reading.text or REDIRECTED_SERVICE, mark)]
    others = sorted(result.keys() - {"new_alias"})
    if others:
        text = (
            f"the result of a redirect is new_alias only, and {brief(others[0])} is there as well"
        )
        return [violation(Topic.REDIRECT, text, Confidence.TRANSCRIBED)]
    try:
        redirect = Redirect.from_result(result)
    except DecisionError as error:
        return [from_issue(error.refusal, Topic.REDIRECT)]
    found = [replace(from_warning(text), topic=Topic.REDIRECT) for text in redirect.warnings]
    if Alias(redirect.new_alias) == Alias(asked.get("local_alias")):
        text = "the call is redirected to its own alias, and would loop"
        found.append(warning(Topic.REDIRECT, text))
    return found
