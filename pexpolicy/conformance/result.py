"""Judging the result of each request by the models that the server itself answers with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pexpolicy.conformance.directory import judge_directory
from pexpolicy.conformance.findings import (
    CheckResult,
    Finding,
    SentRequest,
    Topic,
    violation,
    warning,
)
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.rules import Confidence

Result = dict[str, Any]


def judge_result(asked: SentRequest, body: Mapping[str, Any]) -> CheckResult:
    """The findings about the result of a reply that succeeded and refuses nothing."""
    result = body.get("result")
    if "result" in body and result is None:
        return CheckResult(
            [warning(Topic.RESULT, "result is null; leave it out", Confidence.REPORTED)]
        )
    if asked.endpoint == "directory_information":
        return CheckResult(judge_directory(asked, body))
    if not result:
        return CheckResult(_empty(asked))
    return _JUDGES[asked.endpoint](asked, result)


def refused(error: DecisionError, topic: Topic) -> Finding:
    """The finding for a result that a model refuses."""
    refusal = error.refusal
    text = str(replace(refusal, mark=""))
    return violation(topic, text, refusal.mark)


def _empty(asked: SentRequest) -> list[Finding]:
    if asked.endpoint != "media_location":
        return []
    text = "a success without a location may count as invalid; a 404 is safer"
    return [warning(Topic.RESULT, text, Confidence.DISPUTED)]


def _by_model(asked: SentRequest, result: Result) -> tuple[list[Finding], bool]:
    """What the model of an endpoint says of a result, and whether Infinity would take it."""
    try:
        decision = ENDPOINTS[asked.endpoint].from_result(result, asked.extras)
    except DecisionError as error:
        return [refused(error, Topic.RESULT)], False
    return [warned(text) for text in decision.warnings], True


def warned(text: str) -> Finding:
    """A model's warning carries its mark at the end, in brackets."""
    said, bracket, mark = text.rpartition(" [")
    return warning(Topic.RESULT, said if bracket else text, mark.rstrip("]") if bracket else "")


def _service(asked: SentRequest, result: Result) -> CheckResult:
    found, taken = _by_model(asked, result)
    if not taken:
        return CheckResult(found)
    found += _breakout(asked, result) + _dial_out(asked, result) + _nobody_calls(asked)
    return CheckResult(found, service=result)


def _breakout(asked: SentRequest, result: Result) -> list[Finding]:
    """An announced room needs its own block; no room may be answered with that of another."""
    wanted = asked.get("breakout_uuid")
    if asked.breakout and result.get("breakout") is not True:
        text = "a breakout room that breakout_uuids announced is answered without breakout = true"
        return [violation(Topic.BREAKOUT, text, Confidence.TRANSCRIBED)]
    if result.get("breakout") is True and wanted:
        given = str(result.get("breakout_uuid", ""))
        if given.casefold() != wanted.casefold():
            text = "breakout_uuid is not that of the room that was asked for"
            return [violation(Topic.BREAKOUT, text, Confidence.TRANSCRIBED)]
    return []


def _dial_out(asked: SentRequest, result: Result) -> list[Finding]:
    running = asked.get("service_name")
    if asked.get("call_direction") != "dial_out" or result["name"] == running:
        return []
    text = "the running service that dials out has another name; the answer must match it"
    return [violation(Topic.DIAL_OUT, text, Confidence.TRANSCRIBED)]


def _nobody_calls(asked: SentRequest) -> list[Finding]:
    if asked.get("call_direction") == "non_dial":
        text = (
            "a probe (OPTIONS, SUBSCRIBE, LRQ) is answered with a service; continue creates nothing"
        )
        return [warning(Topic.NON_DIAL, text, Confidence.REPORTED)]
    if not asked.get("local_alias") and not asked.get("breakout_uuid"):
        return [
            warning(
                Topic.NON_DIAL,
                "a request without an alias is answered with a service",
                Confidence.REPORTED,
            )
        ]
    return []


def _participant(asked: SentRequest, result: Result) -> CheckResult:
    found, taken = _by_model(asked, result)
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
    if taken and "" in (result["username"], result["password"]):
        text = "the user name or the password is empty"
        found.append(warning(Topic.CREDENTIALS, text, Confidence.REPORTED))
    return CheckResult(found)


_JUDGES: Mapping[str, Callable[[SentRequest, Result], CheckResult]] = {
    "service_configuration": _service,
    "participant_properties": _participant,
    "media_location": _location,
    "registration_alias": _registration,
}
