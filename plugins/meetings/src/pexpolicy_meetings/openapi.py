"""The operations of the API, and their description as OpenAPI 3.1, made from the models."""

from __future__ import annotations

import re
from functools import cache
from http import HTTPStatus
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from pexpolicy import __version__
from pexpolicy.models.attribute_docs import attribute_docs
from pexpolicy_meetings.meeting import Id, InvitationBody, MeetingBody, State, Time
from pexpolicy_meetings.problems import CONTENT_TYPE, JSON, MERGE_PATCH, QUERY, Error, Problem

PREFIX = "/api/v1"
MEETINGS = "/meetings"
MEETING = "/meetings/{id}"
INVITATIONS = f"{MEETING}/invitations"
INVITATION = INVITATIONS + "/{invitation}"
_STRING = {"type": "string"}
REF = "#/components/schemas/{name}"
CREATED, OK, NONE = HTTPStatus.CREATED, HTTPStatus.OK, HTTPStatus.NO_CONTENT


class Operation(NamedTuple):
    """One operation; ``name`` is the method of the API that answers it."""

    name: str
    method: str
    path: str
    summary: str
    result: str = ""
    """The model of the result, if it has any."""
    status: HTTPStatus = HTTPStatus.OK
    body: str = ""
    """The model of the body, if there is any."""
    parameters: tuple[str, ...] = ()
    """In addition to those in the path, and ``If-Match``."""

    @property
    def scope(self) -> str:
        """What a token has to have; empty for an operation without a token."""
        if self.method != "GET":
            return _WRITE
        return {"Live": _LIVE, "Limits": _LIVE, "Any": ""}.get(self.result, "meetings:read")

    @property
    def ids(self) -> list[str]:
        """The names in the path."""
        return re.findall(r"{(\w+)}", self.path)

    @property
    def refusals(self) -> set[int]:
        """The statuses of requests that are refused; some of all, before they are read."""
        is_change = self.scope == _WRITE and bool(self.ids or self.body)
        return {
            *(400, 413, 431, 503),
            *(401, 403, 429) * bool(self.scope),
            *(404,) * (bool(self.ids) or self.scope == _LIVE),
            *(415,) * bool(self.body),
            *(422,) * bool(self.body or self.parameters),
            *(409, 412) * is_change,
        }


_WRITE, _LIVE = "meetings:write", "live:read"
_FIELDS, _BODY, _INVITED, _INVITE = "Meeting", "MeetingBody", "Invitation", "InvitationBody"
_NEW, _KEYED = ("If-None-Match",), ("Idempotency-Key",)
OPERATIONS = tuple(
    Operation(*row)
    for row in (
        ("put_meeting", "PUT", MEETING, "Create or replace a meeting", _FIELDS, OK, _BODY, _NEW),
        ("post_meeting", "POST", MEETINGS, "Create a meeting", _FIELDS, CREATED, _BODY, _KEYED),
        ("get_meeting", "GET", MEETING, "Show a meeting", _FIELDS),
        ("list_meetings", "GET", MEETINGS, "List by start", "MeetingList", OK, "", tuple(QUERY)),
        ("patch_meeting", "PATCH", MEETING, "Change fields (RFC 7396)", _FIELDS, OK, _BODY),
        ("delete_meeting", "DELETE", MEETING, "Cancel a meeting", "", NONE),
        ("delete_series", "DELETE", MEETINGS, "Cancel all", "Cancelled", OK, "", ("series",)),
        ("end_meeting", "POST", f"{MEETING}/end", "Close it now", _FIELDS),
        ("new_pins", "POST", f"{MEETING}/new-pins", "Change the PINs", _FIELDS),
        ("invite", "POST", INVITATIONS, "Make an alias for one person", _INVITED, CREATED, _INVITE),
        ("patch_invitation", "PATCH", INVITATION, "Change it (RFC 7396)", _INVITED, OK, _INVITE),
        ("revoke", "DELETE", INVITATION, "Withdraw an invitation", "", NONE),
        ("live_meeting", "GET", f"{MEETING}/live", "Count who is in it", "Live"),
        ("live", "GET", "/live", "Count who is in the meetings of the tenant", "Live"),
        ("limits", "GET", "/limits", "Show limits, and their use", "Limits"),
        ("openapi", "GET", "/openapi.json", "Describe this API", "Any"),
    )
)


class Live(msgspec.Struct):
    """People in a meeting, or in all of a tenant."""

    participants: int
    hosts: int
    waiting: int
    as_of: str
    stale: bool
    """Whether the numbers may be wrong, as events are missing."""


class Cancelled(msgspec.Struct):
    """How many meetings of a series were cancelled."""

    cancelled: int


_QUOTED = "[ -!#-~]{1,255}"
_KEY = Annotated[str, Meta(pattern=f'^("{_QUOTED}"|{_QUOTED.replace(" -!", "!")})$')]
_PARAMETERS: dict[str, tuple[str, Any, str, list[str]]] = {
    "id": ("path", Id, "The id of the booking system.", ["crm-7"]),
    "invitation": ("path", Id, "The id of the invitation.", []),
    "If-Match": ("header", str, "Change only this version: an ETag, or `*`.", []),
    "If-None-Match": ("header", str, "`*`: create only.", []),
    "Idempotency-Key": ("header", _KEY, "With it a repetition creates nothing for 24 hours.", []),
    "from": ("query", Time, "Meetings that end after it.", ["2030-06-01T00:00:00Z"]),
    "to": ("query", Time, "Meetings that start before it.", ["2030-07-01T00:00:00Z"]),
    "state": ("query", State, "Without it, all but cancelled ones.", []),
    "series": ("query", Id, "Meetings of this series.", ["board"]),
    "limit": ("query", QUERY["limit"], "Meetings at once; 100 by default.", []),
    "cursor": ("query", QUERY["cursor"], "What `next` of the list before was.", []),
}
"""Place, type, meaning and examples by name."""
_DATES = {"start": "2030-06-01T10:00:00+02:00", "end": "2030-06-01T11:00:00+02:00"}
_EXAMPLES = {
    "MeetingBody": [
        {**_DATES, "title": "Review", "lobby": "locked", "owner_email": "ann@acme.example.com"},
        {**_DATES, "series": "board", "cost_centre": "4711", "service": {"view": "two_mains"}},
        {**_DATES, "lobby": "none", "late_minutes": 0, "participant_limit": 5},
    ],
    "MeetingBodyPatch": [{"end": "2030-06-01T11:30:00+02:00"}, {"title": "New", "series": None}],
    "InvitationBody": [{"name": "Ann", "role": "guest", "uses": 1}],
}


class Invitation(InvitationBody, frozen=True, kw_only=True):
    """An invitation."""

    id: str
    alias: str
    """For this person alone."""
    used: int
    """How many people were in the meeting by it."""
    spent_at: str | None


class Meeting(MeetingBody, frozen=True, kw_only=True):
    """A meeting; its PINs only with ``pins:read``."""

    id: Id
    invitations: list[Invitation]
    state: State
    created: Time
    updated: Time
    etag: str


class MeetingList(msgspec.Struct):
    """A part of a list."""

    items: list[Meeting]
    next: str | None
    """The cursor of the next part."""


def _schemas() -> dict[str, Any]:
    """Return the JSON schemas of the models by name."""
    models: tuple[type, ...] = (MeetingBody, InvitationBody, Meeting, Invitation, MeetingList)
    models += (Live, Cancelled, Problem, Error)
    _, found = msgspec.json.schema_components(models, ref_template=REF)
    for model in models:
        docs = attribute_docs(model)
        for name, schema in found[model.__name__]["properties"].items():
            if name in docs:
                schema["description"] = docs[name]
    for name in ("MeetingBody", "InvitationBody"):
        body = found[name]
        for field, schema in body["properties"].items():
            if field not in body["required"] and "anyOf" not in schema:
                body["properties"][field] = {"anyOf": [schema, {"type": "null"}]}
        body["additionalProperties"] = False
        found[f"{name}Patch"] = {**body, "required": [], "title": f"{name}Patch"}
    return {name: {**schema, "examples": _EXAMPLES.get(name, [])} for name, schema in found.items()}


@cache
def description(missing: frozenset[str] = frozenset()) -> bytes:
    """Return the document, without operations whose results are missing: no plugin has them."""
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        if one.result not in missing:
            paths.setdefault(PREFIX + one.path, {})[one.method.lower()] = _operation(one)
    document = {
        "openapi": "3.1.0",
        "info": {"title": "pexpolicy meetings", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {"Any": {"type": "object"}, "Limits": {"type": "object"}, **_schemas()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
    # The end of a text, as JSON Schema has it.
    return msgspec.json.encode(document).replace(rb"\\Z", b"$")


def _operation(one: Operation) -> dict[str, Any]:
    named = one.ids + ["If-Match"] * bool(one.ids and one.scope == _WRITE)
    results = {*[CREATED] * (one.method == "PUT"), one.status}
    found: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "description": f"Needs the scope `{one.scope}`." if one.scope else "Needs no token.",
        "parameters": [_parameter(name, one) for name in (*named, *one.parameters)],
        "security": [{"token": []}] if one.scope else [],
        "responses": {str(int(status)): _response(status, one) for status in results},
    }
    if one.body:
        is_patch = one.method == "PATCH"
        schema = {"schema": _ref(f"{one.body}Patch" if is_patch else one.body)}
        content = {JSON: schema, **({MERGE_PATCH: schema} if is_patch else {})}
        found["requestBody"] = {"required": True, "content": content}
    for status in map(HTTPStatus, sorted(one.refusals)):
        content = {CONTENT_TYPE: {"schema": _ref("Problem")}}
        found["responses"][str(int(status))] = {"description": status.phrase, "content": content}
    return found


def _parameter(name: str, one: Operation) -> dict[str, Any]:
    place, kind, text, examples = _PARAMETERS[name]
    required = place == "path" or (name, one.name) == ("series", "delete_series")
    about = {"name": name, "in": place, "required": required, "description": text}
    return {**about, "schema": {**msgspec.json.schema(kind), "examples": examples}}


def _response(status: HTTPStatus, one: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {"description": status.phrase}
    if one.result:
        found["content"] = {JSON: {"schema": _ref(one.result)}}
        if one.name == "get_meeting":
            found["content"]["text/calendar"] = {"schema": _STRING}
    headers = ["ETag"] * (one.result == _FIELDS) + ["Location"] * (status == CREATED)
    if headers:
        found["headers"] = {name: {"schema": _STRING, "required": True} for name in headers}
    return found


def _ref(name: str) -> dict[str, str]:
    return {"$ref": REF.format(name=name)}
