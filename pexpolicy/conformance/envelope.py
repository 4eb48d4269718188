"""The envelope and the result of a JSON reply: status, action, and whether they fit the result."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pexpolicy.conformance.disposition import (
    ACTIONS,
    REDIRECTED_SERVICE,
    Disposition,
    Reading,
    is_used,
    read_envelope,
    repaired,
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
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.directory_information import DirectoryEntry
from pexpolicy.endpoints.service_configuration import service_class
from pexpolicy.models.alias import Alias
from pexpolicy.models.contract import Contract, contract_of
from pexpolicy.models.decision import Redirect, Reject
from pexpolicy.models.errors import DecisionError, ValidationIssue
from pexpolicy.models.model import Model
from pexpolicy.models.request import MAX_DIGITS
from pexpolicy.models.rules import Confidence
from pexpolicy.text import brief

Result = dict[str, Any]
KEYS = ("alias", "description", "username")
MAX_FINDINGS = 5
"""Maximum number of findings about one list."""


def judge_result(asked: SentRequest, body: Mapping[str, Any]) -> CheckResult:
    """Return the findings about the result of a reply with ``status`` success, and no reject."""
    result = body.get("result")
    if "result" in body and result is None:
        return CheckResult(
            [warning(Topic.RESULT, "result is null; leave it out", Confidence.REPORTED)]
        )
    if asked.endpoint == "directory_information":
        return CheckResult(_directory(asked, body))
    if not result:
        return CheckResult(_empty(asked, result))
    return _JUDGES[asked.endpoint](asked, result)


def from_issue(issue: ValidationIssue, topic: Topic) -> Finding:
    """Return the finding for a field that a model refuses."""
    return violation(topic, str(replace(issue, mark="")), issue.mark)


def from_warning(text: str) -> Finding:
    """Return the finding for a warning of a model, which ends with its mark in brackets."""
    plain, bracket, mark = text.rpartition(" [")
    return warning(Topic.RESULT, plain if bracket else text, mark.rstrip("]") if bracket else "")


def _empty(asked: SentRequest, result: object) -> list[Finding]:
    if result == []:
        text = "the empty result is a list, and not an object; leave it out"
        return [warning(Topic.RESULT, text, Confidence.REPORTED)]
    if asked.endpoint != "media_location":
        return []
    text = "a success without a location may count as invalid; a 404 is safer"
    return [warning(Topic.RESULT, text, Confidence.DISPUTED)]


def _by_model(asked: SentRequest, result: Result) -> tuple[list[Finding], bool]:
    """Return the findings of the model of an endpoint, and whether the result is usable."""
    try:
        decision = ENDPOINTS[asked.endpoint].from_result(result, asked.extras)
    except DecisionError as error:
        issues = _issues(asked, result) or [error.refusal]
        return [from_issue(issue, Topic.RESULT) for issue in issues], False
    return [from_warning(text) for text in decision.warnings], True


def _issues(asked: SentRequest, result: Result) -> list[ValidationIssue]:
    """Return every issue of a result but unknown fields, which Infinity appears to ignore."""
    model: type[Model] | None
    if asked.endpoint == "service_configuration":
        model = service_class(result.get("service_type"), asked.extras)
    else:
        model = ENDPOINTS[asked.endpoint].decisions[0]
    if model is None:
        return []
    issues = model.find_issues(result, asked.extras)
    return [issue for issue in issues if not _is_unknown(contract_of(model), issue.field)]


def _is_unknown(model: Contract | None, field: str) -> bool:
    """Return True for the place of a field that its model does not have."""
    for name in re.findall(r"[^.\[\]]+", field):
        if model is None:
            return False
        if name.isdecimal():
            continue
        if name not in model.names and name not in model.constants:
            return True
        model = model.nested_models.get(name)
    return False


def _service(asked: SentRequest, result: Result) -> CheckResult:
    found, taken = _by_model(asked, result)
    if not taken:
        return CheckResult(found)
    found += _breakout(asked, result) + _dial_out(asked, result) + _without_caller(asked)
    return CheckResult(found, service=result)


def _breakout(asked: SentRequest, result: Result) -> list[Finding]:
    """Check the breakout fields: a breakout room needs its own, not those of another room."""
    requested = asked.get("breakout_uuid")
    if requested and result.get("breakout") is not True:
        room = (
            "a breakout room that breakout_uuids announced" if asked.breakout else "breakout_uuid"
        )
        text = f"{room} is answered without breakout = true"
        make = violation if asked.breakout else warning
        return [make(Topic.BREAKOUT, text, Confidence.TRANSCRIBED)]
    if requested:
        uuid = str(result.get("breakout_uuid", ""))
        if uuid.casefold() != requested.casefold():
            text = "breakout_uuid is not that of the room that was asked for"
            return [violation(Topic.BREAKOUT, text, Confidence.TRANSCRIBED)]
    return []


def _dial_out(asked: SentRequest, result: Result) -> list[Finding]:
    running = asked.get("service_name")
    if asked.get("call_direction") != "dial_out" or running in ("", result["name"]):
        return []
    text = "the running service that dials out has another name; the answer must match it"
    return [violation(Topic.DIAL_OUT, text, Confidence.TRANSCRIBED)]


def _without_caller(asked: SentRequest) -> list[Finding]:
    if asked.get("call_direction") == "non_dial":
        text = (
            "a probe (OPTIONS, SUBSCRIBE, LRQ) is answered with a service; continue creates nothing"
        )
        return [warning(Topic.NON_DIAL, text, Confidence.REPORTED)]
    if not asked.get("local_alias") and not asked.get("breakout_uuid"):
        text = "a request without an alias is answered with a service"
        return [warning(Topic.NON_DIAL, text, Confidence.REPORTED)]
    return []


def _participant(asked: SentRequest, result: Result) -> CheckResult:
    # A reject_reason that rejects nothing is the envelope's fault, and no unknown field as well.
    known = {name: value for name, value in result.items() if name != "reject_reason"}
    found, taken = _by_model(asked, known)
    named = asked.get("remote_display_name")
    if taken and named and result.get("remote_display_name", "") is None:
        text = "remote_display_name may be null only where it was null; the caller has a name"
        found.append(violation(Topic.RESULT, text, Confidence.TRANSCRIBED))
    return CheckResult(found)


def _location(asked: SentRequest, result: Result) -> CheckResult:
    return CheckResult(_by_model(asked, result)[0])


def _registration(asked: SentRequest, result: Result) -> CheckResult:
    if result.get("username") == "" and result.get("password") == "":
        text = "user name and password are both empty: any device may register under this alias"
        return CheckResult([warning(Topic.CREDENTIALS, text, Confidence.TRANSCRIBED)])
    found, taken = _by_model(asked, result)
    if taken and asked.get("auth_type").strip('"') == "sso":
        text = (
            "single sign-on takes an empty result; user name and password are for credentials only"
        )
        found.append(violation(Topic.CREDENTIALS, text, Confidence.TRANSCRIBED))
    return CheckResult(found)


def _directory(asked: SentRequest, body: Mapping[str, Any]) -> list[Finding]:
    """Return the findings about the entries of a reply and about ``ignore_local``."""
    entries = body.get("result", [])
    findings: list[Finding] = []
    if entries == {}:
        text = "the result of a search is a list, and this is {}"
        findings.append(warning(Topic.RESULT, text, Confidence.TRANSCRIBED))
        entries = []
    if "ignore_local" in body and not isinstance(body["ignore_local"], bool):
        findings.append(
            violation(
                Topic.DIRECTORY, "ignore_local is neither true nor false", Confidence.TRANSCRIBED
            )
        )
    for number, entry in enumerate(entries):
        findings += _entry(number, entry)
        if len(findings) >= MAX_FINDINGS:
            return findings
    findings += _length(asked, entries)
    sound = not any(finding.level.fails for finding in findings)
    if sound and not _is_sorted(entries):
        text = "the entries are not sorted by any of their keys"
        findings.append(violation(Topic.DIRECTORY, text, Confidence.TRANSCRIBED))
    return findings


def _entry(number: int, entry: Any) -> list[Finding]:
    if not isinstance(entry, dict):
        return [
            violation(Topic.DIRECTORY, f"entry {number} is not an object", Confidence.TRANSCRIBED)
        ]
    missing = [key for key in KEYS if key not in entry]
    if missing:
        text = f"entry {number} has no {' and no '.join(missing)}; all three keys must be there"
        return [violation(Topic.DIRECTORY, text, Confidence.TRANSCRIBED)]
    try:
        warnings = DirectoryEntry.from_result(entry).warnings
    except DecisionError as error:
        return [violation(Topic.DIRECTORY, f"entry {number}: {error}", Confidence.TRANSCRIBED)]
    return [warning(Topic.DIRECTORY, f"entry {number}: {text}") for text in warnings]


def _length(asked: SentRequest, entries: list[Any]) -> list[Finding]:
    limit = asked.get("limit").strip()
    if not (limit.isascii() and limit.isdecimal()) or len(entries) <= int(limit[:MAX_DIGITS]):
        return []
    text = f"{len(entries)} entries, and the limit is {limit}"
    return [violation(Topic.DIRECTORY, text, Confidence.TRANSCRIBED)]


def _is_sorted(entries: list[dict[str, str]]) -> bool:
    """Return True if the entries are sorted by one of their keys, in one of the usual collations.

    A key that is the same everywhere, such as an empty user name, is no order.
    """
    columns = [[entry[key] for entry in entries] for key in KEYS]
    told_apart = [values for values in columns if len(set(values)) > 1]
    orders = (str, str.casefold, _unaccented)
    return not told_apart or any(v == sorted(v, key=order) for v in told_apart for order in orders)


def _unaccented(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in folded if c.isalnum())


_JUDGES: Mapping[str, Callable[[SentRequest, Result], CheckResult]] = {
    "service_configuration": _service,
    "participant_properties": _participant,
    "media_location": _location,
    "registration_alias": _registration,
}


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
