"""The operations of the API, and their description as OpenAPI 3.1, made from the models."""

from __future__ import annotations

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
    def has_meeting(self) -> bool:
        """Whether it is one of a meeting."""
        return "{id}" in self.path

    @property
    def refusals(self) -> set[int]:
        """The statuses of requests that are refused."""
        is_write = self.scope == _WRITE
        return {
            *(401, 403, 429, 503) * bool(self.scope),
            *(400, 413, 415) * bool(self.body),
            *(422,) * bool(self.body or (self.parameters and not self.has_meeting)),
            *(404,) * ((self.has_meeting and self.method != "PUT") or self.scope == _LIVE),
            *(409,) * (is_write and (self.has_meeting or bool(self.body))),
            *(412,) * (is_write and self.has_meeting),
        }


_WRITE, _LIVE = "meetings:write", "live:read"
_FIELDS, _BODY, _INVITED, _INVITE = "MeetingFields", "MeetingBody", "Invited", "InvitationBody"
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


_KEY = Annotated[str, Meta(pattern='^"[ -!#-~]{1,255}"$')]
_PARAMETERS: dict[str, tuple[str, Any, str]] = {
    "id": ("path", Id, "The id of the booking system."),
    "invitation": ("path", Id, "The id of the invitation."),
    "If-Match": ("header", str, "Change only this version: an ETag, or `*`."),
    "If-None-Match": ("header", str, "`*`: create only."),
    "Idempotency-Key": ("header", _KEY, "With the same one, nothing is created for 24 hours."),
    "from": ("query", Time, "Meetings that end after it."),
    "to": ("query", Time, "Meetings that start before it."),
    "state": ("query", State, "Without it, all but cancelled ones."),
    "series": ("query", Id, "Meetings of this series."),
    "limit": ("query", QUERY["limit"], "Meetings at once; 100 by default."),
    "cursor": ("query", str, "What `next` of the list before was."),
}
"""Place, type and meaning by name."""


class Invited(InvitationBody, frozen=True, kw_only=True):
    """An invitation."""

    id: str
    alias: str
    """For this person alone."""
    used: int
    """How many people were in the meeting by it."""
    spent_at: str | None


class MeetingFields(MeetingBody, frozen=True, kw_only=True):
    """A meeting; its PINs only with ``pins:read``."""

    id: Id
    invitations: list[Invited]
    state: State
    created: str
    updated: str
    etag: str


class MeetingList(msgspec.Struct):
    """A part of a list."""

    items: list[MeetingFields]
    next: str | None
    """The cursor of the next part."""


def _schemas() -> dict[str, Any]:
    """Return the JSON schemas of the models by name."""
    models: tuple[type, ...] = (MeetingBody, InvitationBody, MeetingFields, Invited, MeetingList)
    models += (Live, Cancelled, Problem, Error)
    _, found = msgspec.json.schema_components(models, ref_template=REF)
    for model in models:
        docs = attribute_docs(model)
        for name, schema in found[model.__name__]["properties"].items():
            if name in docs:
                schema["description"] = docs[name]
    for name in ("MeetingBody", "InvitationBody"):
        found[name]["additionalProperties"] = False
        patch = {key: value for key, value in found[name].items() if key != "required"}
        found[f"{name}Patch"] = {**patch, "title": f"{name}Patch"}
    return found


@cache
def description() -> bytes:
    """Return the document."""
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
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
    named = [name for name in ("id", "invitation") if f"{{{name}}}" in one.path]
    named += ["If-Match"] * (one.has_meeting and one.scope == _WRITE)
    results = {*[CREATED] * (one.method == "PUT"), one.status}
    found: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "parameters": [_parameter(name, one) for name in (*named, *one.parameters)],
        "security": [{"token": []}] if one.scope else [],
        "responses": {str(int(status)): _response(status, one) for status in results},
    }
    if one.scope:
        found["description"] = f"Needs the scope `{one.scope}`."
    if one.body:
        is_patch = one.method == "PATCH"
        schema = {"schema": _ref(f"{one.body}Patch" if is_patch else one.body)}
        content = {JSON: schema, **({MERGE_PATCH: schema} if is_patch else {})}
        found["requestBody"] = {"required": True, "content": content}
    for status in sorted(one.refusals):
        content = {CONTENT_TYPE: {"schema": _ref("Problem")}}
        # The server itself refuses a body that is too long, before it is read.
        known = {"content": content} if status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE else {}
        found["responses"][str(status)] = {"description": HTTPStatus(status).phrase, **known}
    return found


def _parameter(name: str, one: Operation) -> dict[str, Any]:
    place, kind, text = _PARAMETERS[name]
    required = place == "path" or (name, one.name) == ("series", "delete_series")
    about = {"name": name, "in": place, "required": required, "description": text}
    return {**about, "schema": msgspec.json.schema(kind)}


def _response(status: HTTPStatus, one: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {"description": status.phrase}
    if one.result:
        found["content"] = {JSON: {"schema": _ref(one.result)}}
        if one.name == "get_meeting":
            found["content"]["text/calendar"] = {"schema": _STRING}
    if one.result == "MeetingFields":
        found["headers"] = {"ETag": {"schema": _STRING, "description": "This version."}}
    if status == CREATED:
        found.setdefault("headers", {})["Location"] = {"schema": _STRING}
    return found


def _ref(name: str) -> dict[str, str]:
    return {"$ref": REF.format(name=name)}
