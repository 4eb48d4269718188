"""The check of a result by the models that the server itself answers with."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pexpolicy.conformance.findings import (
    CheckResult,
    Finding,
    SentRequest,
    Topic,
    violation,
    warning,
)
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.directory_information import DirectoryEntry
from pexpolicy.endpoints.service_configuration import service_class
from pexpolicy.models.contract import Contract, contract_of
from pexpolicy.models.errors import DecisionError, ValidationIssue
from pexpolicy.models.model import Model
from pexpolicy.models.request import MAX_DIGITS
from pexpolicy.models.rules import Confidence

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
