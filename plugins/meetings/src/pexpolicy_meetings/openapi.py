"""The operations of the API, and their description as OpenAPI 3.1, made from the models."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from pexpolicy import __version__
from pexpolicy.models.attribute_docs import attribute_docs
from pexpolicy_meetings.meeting import Id, InvitationBody, MeetingBody, Role, State
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
    scope: str
    """What a token has to have; empty for an operation without a token."""
    summary: str
    results: tuple[HTTPStatus, ...]
    result: str
    """The model of the result, if it has any."""
    parameters: tuple[str, ...] = ()
    body: str = ""
    """The model of the body, if there is any."""

    @property
    def body_types(self) -> tuple[str, ...]:
        """The types of the body."""
        return (MERGE_PATCH, JSON) if self.method == "PATCH" else (JSON,)

    @property
    def refusals(self) -> set[int]:
        """The statuses of requests that are refused."""
        is_write, has_meeting = self.scope == _WRITE, "{id}" in self.path
        return {
            *(401, 403, 503) * bool(self.scope),
            *(400, 413, 415) * bool(self.body),
            *(422,) * bool(self.body or (self.parameters and not has_meeting)),
            *(404,) * ((has_meeting and self.method != "PUT") or self.scope == _LIVE),
            *(409,) * (is_write and (has_meeting or bool(self.body))),
            *(412,) * (is_write and has_meeting),
        }


_WRITE, _READ, _LIVE = "meetings:write", "meetings:read", "live:read"
_MATCH = ("If-Match",)
_LISTED = ("from", "to", "state", "series", "limit", "cursor")
_FIELDS, _BODY, _INVITATION = "MeetingFields", "MeetingBody", "InvitationBody"
_MADE, _DONE = (CREATED,), (OK,)
_CREATE, _REPLACE = "Create a meeting with an id of ours", "Create or replace a meeting"
_TOTAL = "Count who is in the meetings of the tenant"
OPERATIONS = tuple(
    Operation(*row)
    for row in (
        (
            *("put_meeting", "PUT", MEETING, _WRITE, _REPLACE),
            *((CREATED, OK), _FIELDS, ("If-Match", "If-None-Match"), _BODY),
        ),
        (
            *("post_meeting", "POST", MEETINGS, _WRITE, _CREATE),
            *(_MADE, _FIELDS, ("Idempotency-Key",), _BODY),
        ),
        ("get_meeting", "GET", MEETING, _READ, "Show a meeting", _DONE, _FIELDS),
        (
            *("list_meetings", "GET", MEETINGS, _READ, "List meetings in the order of their start"),
            *(_DONE, "MeetingList", _LISTED),
        ),
        (
            *("patch_meeting", "PATCH", MEETING, _WRITE, "Change some fields (RFC 7396)"),
            *(_DONE, _FIELDS, _MATCH, f"{_BODY}Patch"),
        ),
        ("delete_meeting", "DELETE", MEETING, _WRITE, "Cancel a meeting", (NONE,), "", _MATCH),
        (
            *("delete_series", "DELETE", MEETINGS, _WRITE, "Cancel the meetings of a series"),
            *(_DONE, "Cancelled", ("series",)),
        ),
        ("end_meeting", "POST", f"{MEETING}/end", _WRITE, "Close it now", _DONE, _FIELDS, _MATCH),
        ("new_pins", "POST", f"{MEETING}/new-pins", _WRITE, "Change PINs", _DONE, _FIELDS, _MATCH),
        (
            *("invite", "POST", INVITATIONS, _WRITE, "Make an alias for one person"),
            *(_MADE, "InvitationFields", _MATCH, _INVITATION),
        ),
        (
            *("patch_invitation", "PATCH", INVITATION, _WRITE, "Change an invitation (RFC 7396)"),
            *(_DONE, "InvitationFields", _MATCH, f"{_INVITATION}Patch"),
        ),
        ("revoke", "DELETE", INVITATION, _WRITE, "Withdraw an invitation", (NONE,), "", _MATCH),
        ("live_meeting", "GET", f"{MEETING}/live", _LIVE, "Count who is in it", _DONE, "Live"),
        ("live", "GET", "/live", _LIVE, _TOTAL, _DONE, "Live"),
        ("limits", "GET", "/limits", _LIVE, "Show limits, and their use", _DONE, "Limits"),
        ("openapi", "GET", "/openapi.json", "", "Describe this API", _DONE, "Any"),
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


_TIME = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
_KEY = Annotated[str, Meta(pattern='^"[ -!#-~]{1,255}"$')]
_PARAMETERS: dict[str, tuple[str, Any, str]] = {
    "id": ("path", Id, "The id of the booking system."),
    "invitation": ("path", Id, "The id of the invitation."),
    "If-Match": ("header", str, "Change only this version: an ETag, or `*`."),
    "If-None-Match": ("header", str, "`*`: create only."),
    "Idempotency-Key": ("header", _KEY, "With the same one, nothing is created for 24 hours."),
    "from": ("query", _TIME, "Meetings that end after it."),
    "to": ("query", _TIME, "Meetings that start before it."),
    "state": ("query", QUERY["state"], "Without it, all but cancelled ones."),
    "series": ("query", QUERY["series"], "Meetings of this series."),
    "limit": ("query", QUERY["limit"], "Meetings at once; 100 by default."),
    "cursor": ("query", str, "What `next` of the list before was."),
}
"""Place, type and meaning by name."""


class MeetingFields(msgspec.Struct, kw_only=True):
    """What an answer has in addition to the fields of a request; PINs only with ``pins:read``."""

    id: Id
    invitations: list[InvitationFields]
    state: State
    created: str
    updated: str
    etag: str


class InvitationFields(msgspec.Struct, kw_only=True):
    """An invitation."""

    id: str
    name: str
    role: Role
    alias: str
    """For this person alone."""
    uses: int
    used: int
    """How many people were in the meeting by it."""
    spent_at: str | None


class MeetingList(msgspec.Struct):
    """A part of a list."""

    items: list[MeetingFields]
    next: str | None
    """The cursor of the next part."""


_MODELS = (MeetingBody, InvitationBody, MeetingFields, InvitationFields, MeetingList)


def _schemas() -> dict[str, Any]:
    """Return the JSON schemas of the models by name."""
    models = (*_MODELS, Live, Cancelled, Problem, Error)
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
    for name in ("start", "end"):
        found["MeetingBody"]["properties"][name]["format"] = "date-time"
    body, fields = found["MeetingBody"], found["MeetingFields"]
    fields["properties"] = {**body["properties"], **fields["properties"]}
    fields["required"] += ["start", "end"]
    return found


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
    in_path = [name for name in ("id", "invitation") if f"{{{name}}}" in one.path]
    found: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "parameters": [_parameter(name, one) for name in (*in_path, *one.parameters)],
        "security": [{"token": []}] if one.scope else [],
        "responses": {str(int(status)): _response(status, one) for status in one.results},
    }
    if one.scope:
        found["description"] = f"Needs the scope `{one.scope}`."
    if one.body:
        content = {kind: {"schema": _ref(one.body)} for kind in one.body_types}
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
