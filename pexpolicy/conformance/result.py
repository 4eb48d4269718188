"""Judging the result of each request by the models that the server itself answers with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pexpolicy.conformance.directory import judge_directory
from pexpolicy.conformance.findings import Asked, Finding, Judged, Topic, violation, warning
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.rules import Mark

Result = dict[str, Any]


def judge_result(asked: Asked, body: Mapping[str, Any]) -> Judged:
    """The findings about the result of a reply that succeeded and refuses nothing."""
    result = body.get("result")
    if "result" in body and result is None:
        return Judged([warning(Topic.RESULT, "result is null; leave it out", Mark.REPORTED)])
    if asked.endpoint == "directory_information":
        return Judged(judge_directory(asked, body))
    if not result:
        return Judged(_empty(asked))
    return _JUDGES[asked.endpoint](asked, result)


def refused(error: DecisionError, topic: Topic) -> Finding:
    """The finding for a result that a model refuses."""
    refusal = error.refusal
    text = str(replace(refusal, mark=""))
    return violation(topic, text, refusal.mark)


def _empty(asked: Asked) -> list[Finding]:
    if asked.endpoint != "media_location":
        return []
    text = "a success without a location may count as invalid; a 404 is safer"
    return [warning(Topic.RESULT, text, Mark.DISPUTED)]


def _by_model(asked: Asked, result: Result) -> tuple[list[Finding], bool]:
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


def _service(asked: Asked, result: Result) -> Judged:
    found, taken = _by_model(asked, result)
    if not taken:
        return Judged(found)
    found += _breakout(asked, result) + _dial_out(asked, result) + _nobody_calls(asked)
    return Judged(found, service=result)


def _breakout(asked: Asked, result: Result) -> list[Finding]:
    """An announced room needs its own block; no room may be answered with that of another."""
    wanted = asked.get("breakout_uuid")
    if asked.breakout and result.get("breakout") is not True:
        text = "a breakout room that breakout_uuids announced is answered without breakout = true"
        return [violation(Topic.BREAKOUT, text, Mark.TRANSCRIBED)]
    if result.get("breakout") is True and wanted:
        given = str(result.get("breakout_uuid", ""))
        if given.casefold() != wanted.casefold():
            text = "breakout_uuid is not that of the room that was asked for"
            return [violation(Topic.BREAKOUT, text, Mark.TRANSCRIBED)]
    return []


def _dial_out(asked: Asked, result: Result) -> list[Finding]:
    running = asked.get("service_name")
    if asked.get("call_direction") != "dial_out" or result["name"] == running:
        return []
    text = "the running service that dials out has another name; the answer must match it"
    return [violation(Topic.DIAL_OUT, text, Mark.TRANSCRIBED)]


def _nobody_calls(asked: Asked) -> list[Finding]:
    if asked.get("call_direction") == "non_dial":
        text = (
            "a probe (OPTIONS, SUBSCRIBE, LRQ) is answered with a service; continue creates nothing"
        )
        return [warning(Topic.NON_DIAL, text, Mark.REPORTED)]
    if not asked.get("local_alias") and not asked.get("breakout_uuid"):
        return [
            warning(
                Topic.NON_DIAL,
                "a request without an alias is answered with a service",
                Mark.REPORTED,
            )
        ]
    return []


def _participant(asked: Asked, result: Result) -> Judged:
    found, taken = _by_model(asked, result)
    named = asked.get("remote_display_name")
    if taken and named and result.get("remote_display_name", "") is None:
        text = "remote_display_name may be null only where it was null; the caller has a name"
        found.append(violation(Topic.RESULT, text, Mark.TRANSCRIBED))
    return Judged(found)


def _location(asked: Asked, result: Result) -> Judged:
    return Judged(_by_model(asked, result)[0])


def _registration(asked: Asked, result: Result) -> Judged:
    if result.get("username") == "" and result.get("password") == "":
        text = "user name and password are both empty: any device may register under this alias"
        return Judged([warning(Topic.CREDENTIALS, text, Mark.TRANSCRIBED)])
    found, taken = _by_model(asked, result)
    if taken and asked.get("auth_type").strip('"') == "sso":
        text = (
            "single sign-on takes an empty result; user name and password are for credentials only"
        )
        found.append(violation(Topic.CREDENTIALS, text, Mark.TRANSCRIBED))
    if taken and "" in (result["username"], result["password"]):
        text = "the user name or the password is empty"
        found.append(warning(Topic.CREDENTIALS, text, Mark.REPORTED))
    return Judged(found)


_JUDGES: Mapping[str, Callable[[Asked, Result], Judged]] = {
    "service_configuration": _service,
    "participant_properties": _participant,
    "media_location": _location,
    "registration_alias": _registration,
}
