"""Oracle of the wire contract: every reason why Infinity would drop or misread a reply.

Written from the contract's text only, without code of the server, so that the two can be compared.
Rules marked DOCUMENTED or DOCUMENTED* are fatal, FIELD and CONTESTED ones are warnings. The oracle
sees one request and one reply: it neither compares replies to several requests nor looks up names
of Infinity's own objects (locations, themes).
"""

from collections.abc import Iterator, Mapping
from urllib.parse import parse_qs

from tests.support.oracle_fields import (
    CONTESTED,
    DOCUMENTED,
    DOCUMENTED_STAR,
    FIELD,
    PARTICIPANT_FIELDS,
    Violation,
    boolean,
    list_of,
    place_name,
    record,
    text,
)
from tests.support.oracle_jpeg import read_frame
from tests.support.oracle_json import read_json
from tests.support.oracle_service import judge_redirect, judge_service

Query = Mapping[str, list[str]]
ACTIONS = {
    "service_configuration": ("continue", "reject", "redirect"),
    "participant_properties": ("continue", "reject"),
    "registration_alias": ("continue", "reject"),
    "media_location": (),
    "directory_information": (),
}
ENDPOINTS = (*ACTIONS, "participant_avatar")


def judge(
    endpoint: str,
    query: str,
    status: int,
    content_type: str,
    body: bytes,
    *,
    alias: str | None = None,
) -> list[Violation]:
    """List the rules that a reply breaks; none means that Infinity uses the reply as intended.

    `query` is the raw query string of the request. `alias` is the alias in the path of avatar and
    registration requests; no rule uses it so far. Raises ValueError for an unknown endpoint.
    """
    del alias
    if endpoint not in ENDPOINTS:
        raise ValueError(f"unknown endpoint: {endpoint}")
    asked = parse_qs(query, keep_blank_values=True, errors="replace")
    media_type = content_type.partition(";")[0].strip().lower()
    if status != 200:
        return list(judge_hand_back(endpoint, status, media_type, body))
    if endpoint == "participant_avatar":
        return list(judge_avatar(asked, media_type, body))
    violations = []
    if media_type != "application/json":
        violations.append(Violation("must be application/json", DOCUMENTED, "content-type"))
    try:
        reply = read_json(body)
    except ValueError as error:
        return [*violations, Violation(f"body is not JSON: {error}", DOCUMENTED)]
    if not isinstance(reply, dict):
        return [*violations, Violation("the reply must be an object", DOCUMENTED)]
    return [*violations, *judge_envelope(endpoint, asked, reply)]


def judge_hand_back(
    endpoint: str, status: int, media_type: str, body: bytes
) -> Iterator[Violation]:
    """Judge a reply that is not a 200: the node uses its own database and ignores any decision."""
    if 300 <= status < 400:
        yield Violation("redirects are not followed", DOCUMENTED_STAR, "status")
    elif not 400 <= status < 600:
        yield Violation("a decision is sent with 200", DOCUMENTED, "status")
    elif status in (401, 403) or status >= 500:
        yield Violation("a fault, not a hand-back", FIELD, "status")
    if endpoint == "participant_avatar" and media_type == "text/html":
        yield Violation("an HTML page in place of an avatar", FIELD, "content-type")
    try:
        reply = read_json(body)
    except ValueError:
        return
    if isinstance(reply, dict):
        if reply.get("result"):
            yield Violation("a result is lost without 200", DOCUMENTED, "result")
        if reply.get("action") in ("reject", "redirect"):
            yield Violation("an action may be lost without 200", CONTESTED, "action")


def judge_envelope(endpoint: str, asked: Query, reply: dict[str, object]) -> Iterator[Violation]:
    """Judge status and action (section 2), then the result that goes with them."""
    yield from judge_action(endpoint, reply)
    status, result = reply.get("status"), reply.get("result", {})
    shape = list if endpoint == "directory_information" else dict
    if "result" in reply and not isinstance(result, shape):
        yield Violation("has the wrong shape", DOCUMENTED_STAR, "result")
        return
    if status != "success":
        yield from judge_failed(status, result)
    elif reply.get("action") == "reject" and ACTIONS[endpoint]:
        yield from judge_reject(endpoint, reply)
    elif endpoint == "directory_information":
        yield from judge_directory(asked, reply)
    elif isinstance(result, dict):
        yield from judge_result(endpoint, asked, reply.get("action"), result)


def judge_action(endpoint: str, reply: dict[str, object]) -> Iterator[Violation]:
    """Judge the action word on its own."""
    if "action" not in reply:
        return
    action, allowed = reply["action"], ACTIONS[endpoint]
    if not allowed and action != "continue":
        lost = action in ("reject", "redirect")
        mark = DOCUMENTED_STAR if lost else FIELD
        yield Violation("this answer has no action", mark, "action")
    elif allowed and action not in allowed:
        yield Violation("is not an action of this answer", DOCUMENTED, "action")


def judge_failed(status: object, result: object) -> Iterator[Violation]:
    """Judge a reply whose status is not `success`: it has failed, and its result is lost."""
    if not isinstance(status, str) or status.strip().lower() == "success":
        yield Violation("only the exact text success counts", DOCUMENTED, "status")
    else:
        yield Violation("a failed answer falls back", FIELD, "status")
    if result:
        yield Violation("a failed answer loses its result", DOCUMENTED, "result")


def judge_reject(endpoint: str, reply: dict[str, object]) -> Iterator[Violation]:
    """Judge a reject: with a usable result the call would be admitted."""
    result = reply.get("result", {})
    if endpoint == "registration_alias" and "result" not in reply:
        yield Violation("a reject must have an empty result", DOCUMENTED_STAR, "result")
    if endpoint == "participant_properties" and isinstance(result, dict):
        if set(result) - {"reject_reason"}:
            yield Violation("a reject holds reject_reason alone", DOCUMENTED_STAR, "result")
        if "reject_reason" in result:
            yield from text()(result["reject_reason"], "result.reject_reason")
    elif result:
        yield Violation("a reject with a result is ignored", DOCUMENTED, "result")


def judge_result(
    endpoint: str, asked: Query, action: object, result: dict[str, object]
) -> Iterator[Violation]:
    """Judge the result of a successful answer that rejects nothing."""
    if endpoint == "media_location":
        yield from judge_location(result)
    elif endpoint == "service_configuration" and action == "redirect":
        yield from judge_redirect(result)
    elif not result:
        return
    elif endpoint == "service_configuration":
        yield from judge_service(result, asked)
    elif endpoint == "participant_properties":
        yield from judge_participant(asked, result)
    else:
        yield from judge_registration(asked, result)


def judge_participant(asked: Query, result: dict[str, object]) -> Iterator[Violation]:
    """Judge overrides of participant properties (5.4)."""
    yield from record(PARTICIPANT_FIELDS)(result, "result")
    if "reject_reason" in result:
        yield Violation("goes with action reject", FIELD, "result.reject_reason")
    named = any(asked.get("remote_display_name", ()))
    if named and result.get("remote_display_name", "") is None:
        yield Violation("null only if it was null", DOCUMENTED_STAR, "result.remote_display_name")


def judge_location(result: dict[str, object]) -> Iterator[Violation]:
    """Judge a media location (5.5). An empty one is less safe than a 404."""
    if not result:
        yield Violation("an empty location may count as invalid", CONTESTED, "result")
        return
    old = [
        name
        for name in result
        if name in ("primary_overflow_location", "secondary_overflow_location")
    ]
    fields = {"location": place_name, "overflow_locations": list_of(place_name)}
    fields |= dict.fromkeys(old, place_name)
    yield from record(fields, required=("location",))(result, "result")
    for name in old:
        yield Violation("the old form of overflow_locations", CONTESTED, f"result.{name}")


def judge_directory(asked: Query, reply: dict[str, object]) -> Iterator[Violation]:
    """Judge a directory (5.6): a list of entries, at most as many as asked for."""
    result = reply.get("result", [])
    names = ("alias", "description", "username")
    entry = record(dict.fromkeys(names, text()), required=names)
    yield from list_of(entry)(result, "result")
    if "ignore_local" in reply:
        yield from boolean(reply["ignore_local"], "ignore_local")
    limit = asked.get("limit", [""])[0]
    count = len(result) if isinstance(result, list) else 0
    if limit.isascii() and limit.isdigit() and count > int(limit):
        yield Violation("more entries than limit", DOCUMENTED_STAR, "result")


def judge_registration(asked: Query, result: dict[str, object]) -> Iterator[Violation]:
    """Judge the credentials that a device has to show (5.7)."""
    names = ("username", "password")
    yield from record(dict.fromkeys(names, text()), required=names)(result, "result")
    if asked.get("auth_type", [""])[0].strip('"') == "sso":
        yield Violation("SSO takes an empty result", DOCUMENTED_STAR, "result")
    if "" in (result.get("username"), result.get("password")):
        yield Violation("empty credentials let anybody register", FIELD, "result")


def judge_avatar(asked: Query, media_type: str, body: bytes) -> Iterator[Violation]:
    """Judge an avatar (5.8): a JPEG in colour, exactly as large as asked."""
    if media_type != "image/jpeg":
        yield Violation("must be image/jpeg", DOCUMENTED, "content-type")
    try:
        frame = read_frame(body)
    except ValueError as error:
        yield Violation(f"the body must be a JPEG: {error}", DOCUMENTED_STAR)
        return
    if frame.components != 3:
        yield Violation("must have three colour components", DOCUMENTED_STAR, "components")
    for side, size in (("width", frame.width), ("height", frame.height)):
        wanted = asked.get(side, [""])[0]
        if wanted.isascii() and wanted.isdigit() and int(wanted) != size:
            yield Violation("must be exactly as large as asked", DOCUMENTED_STAR, side)
