"""What requests say, and the responses to those that are refused, as in RFC 9457."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from aiohttp import hdrs, web
from msgspec import Meta

from pexpolicy.conformance.replies import NotJSONError, strict_json
from pexpolicy.models.validation import wanted
from pexpolicy_meetings.meeting import ID, Fault, Id, Meeting, State, Time, read_time

CONTENT_TYPE = "application/problem+json"
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
CURSOR = rf"^([0-9]{{1,12}}_{ID.pattern})?\Z"
QUERY: dict[str, Any] = {
    "from": Time,
    "to": Time,
    "state": State,
    "series": Id,
    "limit": Annotated[int, Meta(ge=1, le=500)],
    "cursor": Annotated[str, Meta(pattern=CURSOR, description="what next of a list was")],
}
"""The types of the values of a query."""


class Error(msgspec.Struct):
    """What is wrong with one value of a request."""

    pointer: str
    """Its place in the body (RFC 6901), or ``/query/NAME``."""
    message: str


class Problem(msgspec.Struct, omit_defaults=True):
    """Why a request is refused (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = ""
    errors: list[Error] = []


@dataclass(eq=False)
class Refusal(Exception):
    """A request is refused with a status; neither text nor faults repeat a value of the client."""

    status: HTTPStatus
    detail: str = ""
    faults: Sequence[Fault] = ()
    headers: Mapping[str, str] | None = None

    def response(self) -> web.Response:
        """Return the response."""
        errors = [Error(one.pointer, one.message) for one in self.faults]
        problem = Problem("about:blank", self.status.phrase, self.status, self.detail, errors)
        given: Any = {"body": msgspec.json.encode(problem), "content_type": CONTENT_TYPE}
        return web.Response(status=self.status, headers=self.headers, **given)

    def named(self) -> dict[str, Any]:
        """Return why, for the audit."""
        errors = [f"{one.pointer} {one.message}" for one in self.faults[:10]]
        return {"status": int(self.status), "errors": errors or [self.detail or self.status.phrase]}


async def document_of(request: web.Request) -> Any:
    """Return the JSON of a body; raises ``Refusal``."""
    is_patch = request.method == hdrs.METH_PATCH
    types = (MERGE_PATCH, JSON) if is_patch else (JSON,)
    if request.content_type not in types:
        headers = {"Accept-Patch" if is_patch else "Accept": ", ".join(types)}
        detail = f"Content-Type has to be {' or '.join(types)}"
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, headers=headers)
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        detail, headers = "a body is not compressed", {hdrs.ACCEPT_ENCODING: "identity"}
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, headers=headers)
    try:
        return strict_json(await request.read())
    except NotJSONError:  # its text repeats a key of the body
        detail = "the body is not JSON (RFC 8259), or has a key twice in an object"
        raise Refusal(HTTPStatus.BAD_REQUEST, detail) from None


def id_of(request: web.Request) -> str:
    """Return the id in the path; one that no meeting can have raises ``Refusal``."""
    found = str(request.match_info["id"])
    if not ID.fullmatch(found):
        raise Refusal(HTTPStatus.NOT_FOUND)
    return found


def query_of(request: web.Request, *names: str) -> dict[str, Any]:
    """Return the values of a query, with times in seconds since 1970.

    Raises ``Refusal``, also for others than ``names``.
    """
    found, faults = dict[str, Any](), list[Fault]()
    if not {*request.query} <= {*names}:
        faults.append(Fault("/query", f"has another parameter than {', '.join(names)}"))
    for name, written in [one for one in request.query.items() if one[0] in QUERY]:
        at = f"/query/{name}"
        if name in found:
            faults.append(Fault(at, "is there twice"))
        try:
            found[name] = msgspec.convert(written, QUERY[name], strict=False)
            if name in ("from", "to"):
                # A plus sign in a query is a blank, unless it is written as %2B.
                found[name] = read_time(at, re.sub(r" (\d\d:\d\d)$", r"+\1", written), faults)
            elif name == "cursor":
                start, _, meeting_id = written.partition("_")
                found[name] = float(start or -1), meeting_id
        except msgspec.ValidationError:
            faults.append(Fault(at, f"must be {wanted(QUERY[name])}"))
    if faults:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, faults=faults)
    return found


def check_conditions(request: web.Request, meeting: Meeting | None) -> None:
    """Raise ``Refusal`` unless a meeting is as the headers demand (RFC 9110, 13.1)."""
    for name, is_wanted in ((hdrs.IF_MATCH, True), (hdrs.IF_NONE_MATCH, False)):
        if not (sent := request.headers.getall(name, [])):
            continue
        tags = (one.strip() for one in ",".join(sent).split(","))
        named = {one.removeprefix("" if is_wanted else "W/").strip('"') for one in tags}
        etag = None if meeting is None or meeting.cancelled_at is not None else meeting.etag
        is_found = etag is not None and not named.isdisjoint((etag, "*"))
        if is_found != is_wanted:
            raise Refusal(HTTPStatus.PRECONDITION_FAILED, f"{name} does not hold")
