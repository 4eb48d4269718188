"""The envelope and the result of a JSON reply: status, action, and whether they fit the result."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pexpolicy.conformance.disposition import (
    ACTIONS,
    REDIRECTED_SERVICE,
    Disposition,
    Reading,
    is_open,
    is_used,
    read_envelope,
    repaired,
    without_null,
    wrong_shape,
)
from pexpolicy.conformance.findings import (
    DISPUTED,
    DOCUMENTED,
    REPORTED,
    TRANSCRIBED,
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
from pexpolicy.models.decision import Redirect, Reject
from pexpolicy.models.errors import DecisionError, ValidationIssue
from pexpolicy.models.model import Model
from pexpolicy.models.request import MAX_DIGITS
from pexpolicy.models.validation import NO_FIELD
from pexpolicy.text import brief

Envelope = Mapping[str, Any]
Result = dict[str, Any]
Findings = Iterator[Finding]
FAILED = ("fail", "failed", "failure", "error")
"""Values of ``status`` of a server that has no decision."""
OUTSIDE: Mapping[str, tuple[str, ...]] = {
    "service_configuration": ("service_type",),
    "participant_properties": ("preauthenticated_role", "bypass_lock", "reject_reason"),
    "media_location": ("location",),
    "directory_information": ("entries", "contacts"),
    "registration_alias": ("username", "password"),
}
"""Fields that belong to the result, and have no other meaning in a reply."""
KEYS = ("alias", "description", "username")
MAX_FINDINGS = 5
"""Maximum number of findings about one list."""


def judge_envelope(asked: SentRequest, body: Envelope) -> CheckResult:
    """Return the findings about a reply with status 200, and how Infinity reads it."""
    endpoint = asked.endpoint
    reading = read_envelope(endpoint, body, asked.extras)
    found = [
        *_action(asked, body, reading),
        *_status_and_result(asked, body, reading),
        *_outside(asked, body, reading),
    ]
    if reading.disposition is Disposition.DROPPED and not CheckResult(found).broken:
        found.append(violation(Topic.RESULT, reading.text, TRANSCRIBED))
    is_service = endpoint == "service_configuration" and body.get("action") != "redirect"
    is_used = reading.disposition is Disposition.RESULT and reading.decision is not None
    service = reading.result if is_service and is_used else {}
    return CheckResult(found, comparable(asked, body, reading), service, reading)


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


def _action(asked: SentRequest, body: Envelope, reading: Reading) -> Findings:
    action, allowed = body.get("action"), ACTIONS.get(asked.endpoint, ())
    if action in (None, "continue", *allowed):
        return
    if allowed:
        is_ignored = reading.disposition is Disposition.RESULT and is_used(asked.endpoint, reading)
        text = f"action = {brief(action)} is not one of {', '.join(allowed)}"
        text += "; it is ignored next to a valid result" * is_ignored
        yield (warning if is_ignored else violation)(Topic.ACTION, text, DOCUMENTED)
    elif action in ("reject", "redirect"):
        text = f"this request has no action {action}: Infinity would ignore it"
        yield violation(Topic.ACTION, text, TRANSCRIBED)
    else:
        text = f"this request has no action; {brief(action)} is ignored"
        yield warning(Topic.ACTION, text, REPORTED)


def _outside(asked: SentRequest, body: Envelope, reading: Reading) -> Findings:
    """Yield a warning if fields of a result are next to it, where Infinity does not read them."""
    names = [name for name in OUTSIDE.get(asked.endpoint, ()) if name in body]
    if reading.disposition is Disposition.CONTINUE and names:
        text = f"{brief(names[0])} is not in the result, so Infinity ignores it"
        yield warning(Topic.RESULT, text, DOCUMENTED)


def _status_and_result(asked: SentRequest, body: Envelope, reading: Reading) -> Findings:
    endpoint, action, result = asked.endpoint, body.get("action"), body.get("result")
    is_empty = result is None or result in ({}, [])
    if body.get("status") != "success":
        yield _failed(body, reading)
    elif not is_empty and (text := wrong_shape(endpoint, result)):
        yield violation(Topic.RESULT, text, TRANSCRIBED)
    elif endpoint == "participant_avatar":
        if result:
            yield violation(Topic.AVATAR, reading.text, TRANSCRIBED)
        else:
            yield warning(Topic.AVATAR, "if there is no picture, answer 404", DOCUMENTED)
    elif action == "reject" and endpoint in ACTIONS:
        yield from _reject(asked, body, reading)
    elif endpoint == "service_configuration" and (
        action == "redirect" or "new_alias" in without_null(result)
    ):
        yield from _redirect(asked, action, result or {}, reading)
    else:
        yield from map(_from_warning, reading.repairs)
        yield from _result(asked, repaired(endpoint, body)[0] if reading.repairs else body)


def _failed(body: Envelope, reading: Reading) -> Finding:
    status = body.get("status")
    described = f"status = {brief(status)}" if "status" in body else "there is no status"
    if other := next((name for name in body if name != "status" and name.lower() == "status"), ""):
        described += f" (names of keys are in lower case, and not {brief(other)})"
    exact = "; only the exact text 'success' counts"
    if reading.disposition is Disposition.REJECT:
        known = status in FAILED
        text = ", and action = 'reject' still counts: Infinity refuses the call"
        text = described + ("" if known else exact) + text
        return (warning if known else violation)(Topic.ENVELOPE, text, DOCUMENTED)
    if reading.disposition is Disposition.DROPPED:
        return violation(Topic.ENVELOPE, reading.text, DOCUMENTED)
    text = "so Infinity uses its own database. If that is meant, a 404 is clearer"
    return fallback(Topic.ENVELOPE, f"{described}{exact}, {text}", DOCUMENTED)


def _reject(asked: SentRequest, body: Envelope, reading: Reading) -> Findings:
    """Check a reject: it refuses only if there is no usable result."""
    result = body.get("result") or {}
    if asked.endpoint == "registration_alias" and "result" not in body:
        text = "a reject of a registration needs an empty result"
        yield violation(Topic.REJECT, text, TRANSCRIBED)
    elif asked.endpoint == "participant_properties":
        if others := sorted(result.keys() - {"reject_reason"}):
            text = "in the result of a reject: nothing but reject_reason may be there"
            yield violation(Topic.REJECT, f"{brief(others[0])} {text}", TRANSCRIBED)
            return
        try:
            Reject.from_result(result)
        except DecisionError as error:
            yield _from_issue(error.refusal, Topic.REJECT)
    elif result and reading.disposition is Disposition.DROPPED:
        yield violation(Topic.REJECT, reading.text, DOCUMENTED)
    elif result:
        text = "Infinity drops the result of a reject, or uses it and does not reject; leave it out"
        yield warning(Topic.REJECT, text, REPORTED)


def _redirect(asked: SentRequest, action: Any, result: Any, reading: Reading) -> Findings:
    if action != "redirect" or "service_type" in without_null(result):
        mark = DOCUMENTED if action == "redirect" else TRANSCRIBED
        yield violation(Topic.REDIRECT, reading.text or REDIRECTED_SERVICE, mark)
        return
    if others := sorted(result.keys() - {"new_alias"}):
        text = f"new_alias only, and {brief(others[0])} is there as well"
        yield violation(Topic.REDIRECT, f"the result of a redirect is {text}", TRANSCRIBED)
        return
    try:
        redirect = Redirect.from_result(result)
    except DecisionError as error:
        yield _from_issue(error.refusal, Topic.REDIRECT)
        return
    yield from (replace(_from_warning(text), topic=Topic.REDIRECT) for text in redirect.warnings)
    if Alias(redirect.new_alias) == Alias(asked.get("local_alias")):
        text = "the call is redirected to its own alias, and would loop"
        yield warning(Topic.REDIRECT, text)


def _result(asked: SentRequest, body: Envelope) -> Findings:
    """Yield the findings about the result of a reply with ``status`` success, and no reject."""
    endpoint, result = asked.endpoint, body.get("result")
    if endpoint == "directory_information" and ("result" not in body or result is not None):
        yield from _directory(asked, body)
    elif is_open(endpoint, result):
        text = "user name and password are both empty: any device may register under this alias"
        yield warning(Topic.CREDENTIALS, text, TRANSCRIBED)
    elif result:
        found = _by_model(asked, result)
        yield from found
        if not any(finding.level.fails for finding in found):
            yield from _beyond_model(asked, result)
    elif "result" in body and result is None:
        yield warning(Topic.RESULT, "result is null; leave it out", REPORTED)
    elif result == []:
        text = "the empty result is a list, and not an object; leave it out"
        yield warning(Topic.RESULT, text, REPORTED)
    elif endpoint == "media_location":
        text = "a success without a location may count as invalid; a 404 is safer"
        yield warning(Topic.RESULT, text, DISPUTED)


def _from_issue(issue: ValidationIssue, topic: Topic) -> Finding:
    return violation(topic, str(replace(issue, mark="")), issue.mark)


def _from_warning(text: str) -> Finding:
    """Return the finding for a warning of a model, which ends with its mark in brackets."""
    plain, bracket, mark = text.rpartition(" [")
    return warning(Topic.RESULT, plain if bracket else text, mark.rstrip("]") if bracket else "")


def _by_model(asked: SentRequest, result: Result) -> list[Finding]:
    if asked.endpoint == "participant_properties":
        # One that rejects nothing is the envelope's fault, and no unknown field as well.
        result = {name: value for name, value in result.items() if name != "reject_reason"}
    try:
        decision = ENDPOINTS[asked.endpoint].from_result(result, asked.extras)
    except DecisionError as error:
        issues = _issues(asked, result) or [error.refusal]
        return [_from_issue(issue, Topic.RESULT) for issue in issues]
    return [*map(_from_warning, decision.warnings)]


def _issues(asked: SentRequest, result: Result) -> list[ValidationIssue]:
    """Return every issue of a result but unknown fields, which Infinity appears to ignore."""
    model: type[Model] | None = ENDPOINTS[asked.endpoint].decisions[0]
    if asked.endpoint == "service_configuration":
        model = service_class(result.get("service_type"), asked.extras)
    issues = model.find_issues(result, asked.extras) if model is not None else []
    return [issue for issue in issues if not issue.rule.startswith(NO_FIELD)]


def _beyond_model(asked: SentRequest, result: Result) -> Findings:
    """Yield what is wrong with a result for this request, though its model takes it."""
    if asked.endpoint == "service_configuration":
        yield from _service(asked, result)
    elif asked.endpoint == "registration_alias" and asked.get("auth_type").strip('"') == "sso":
        text = "takes an empty result; user name and password are for credentials only"
        yield violation(Topic.CREDENTIALS, f"single sign-on {text}", TRANSCRIBED)
    elif asked.get("remote_display_name") and result.get("remote_display_name", "") is None:
        text = "remote_display_name may be null only where it was null; the caller has a name"
        yield violation(Topic.RESULT, text, TRANSCRIBED)


def _service(asked: SentRequest, result: Result) -> Findings:
    requested = asked.get("breakout_uuid")
    if requested and result.get("breakout") is not True:
        # A breakout room needs its own fields, not those of another room.
        text = "breakout_uuid is answered without breakout = true"
        yield warning(Topic.BREAKOUT, text, TRANSCRIBED)
    elif requested and str(result.get("breakout_uuid", "")).casefold() != requested.casefold():
        text = "breakout_uuid is not that of the room that was asked for"
        yield violation(Topic.BREAKOUT, text, TRANSCRIBED)
    direction, running = asked.get("call_direction"), asked.get("service_name")
    if direction == "dial_out" and running not in ("", result["name"]):
        text = "the running service that dials out has another name; the answer must match it"
        yield violation(Topic.DIAL_OUT, text, TRANSCRIBED)
    if direction == "non_dial":
        text = "is answered with a service; continue creates nothing"
        yield warning(Topic.NON_DIAL, f"a probe (OPTIONS, SUBSCRIBE, LRQ) {text}", REPORTED)
    elif not asked.get("local_alias") and not requested:
        text = "a request without an alias is answered with a service"
        yield warning(Topic.NON_DIAL, text, REPORTED)


def _directory(asked: SentRequest, body: Envelope) -> Findings:
    entries = body.get("result", [])
    if entries == {}:
        text = "the result of a search is a list, and this is {}"
        yield warning(Topic.RESULT, text, TRANSCRIBED)
        entries = []
    wrong = "ignore_local" in body and not isinstance(body["ignore_local"], bool)
    found = [_entry_fault("ignore_local is neither true nor false")] if wrong else []
    for number, entry in enumerate(entries):
        found += _entry(number, entry)
        if len(found) >= MAX_FINDINGS:
            yield from found
            return
    limit = asked.get("limit").strip()
    if limit.isascii() and limit.isdecimal() and len(entries) > int(limit[:MAX_DIGITS]):
        found.append(_entry_fault(f"{len(entries)} entries, and the limit is {limit}"))
    if not any(finding.level.fails for finding in found) and not _is_sorted(entries):
        found.append(_entry_fault("the entries are not sorted by any of their keys"))
    yield from found


def _entry_fault(text: str) -> Finding:
    return violation(Topic.DIRECTORY, text, TRANSCRIBED)


def _entry(number: int, entry: Any) -> Findings:
    if not isinstance(entry, dict):
        yield _entry_fault(f"entry {number} is not an object")
    elif missing := [key for key in KEYS if key not in entry]:
        text = f"has no {' and no '.join(missing)}; all three keys must be there"
        yield _entry_fault(f"entry {number} {text}")
    else:
        try:
            warnings = DirectoryEntry.from_result(entry).warnings
        except DecisionError as error:
            yield _entry_fault(f"entry {number}: {error}")
        else:
            yield from (warning(Topic.DIRECTORY, f"entry {number}: {text}") for text in warnings)


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
