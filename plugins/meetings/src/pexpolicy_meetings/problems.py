"""What requests say, and the responses to those that are refused, as in RFC 9457."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import hdrs, web

from pexpolicy_meetings.meeting import Fault, Meeting, read_time

CONTENT_TYPE = "application/problem+json"
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")


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


class Refusal(Exception):
    """A request is refused with a status; neither text nor faults repeat a value of the client."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str = "",
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.faults = faults
        self.headers = headers

    def response(self) -> web.Response:
        """Return the response."""
        errors = [Error(one.pointer, one.message) for one in self.faults]
        problem = Problem("about:blank", self.status.phrase, self.status, self.detail, errors)
        body = msgspec.json.encode(problem)
        return web.Response(
            status=self.status, body=body, content_type=CONTENT_TYPE, headers=self.headers
        )


async def document_of(request: web.Request, *types: str) -> Any:
    """Return the JSON of a body, of one of these types; raises ``Refusal``."""
    if request.content_type not in types:
        accepted = ", ".join(types)
        headers = {"Accept-Patch" if request.method == hdrs.METH_PATCH else "Accept": accepted}
        detail = f"Content-Type has to be {' or '.join(types)}"
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, headers=headers)
    body = await request.read()
    try:
        document = json.loads(
            body.decode(),
            object_pairs_hook=_without_repetition,
            parse_constant=_finite,
            parse_float=_finite,
        )
        # Half of a surrogate pair cannot be stored.
        json.dumps(document, ensure_ascii=False).encode()
    except _RepeatedKey as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, str(error)) from None
    except (ValueError, RecursionError):
        raise Refusal(HTTPStatus.BAD_REQUEST, "the body is not JSON (RFC 8259)") from None
    return document


class _RepeatedKey(ValueError):
    """An object has a key twice."""


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _RepeatedKey("an object in the body has a key twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


def positive(text: str | None, default: int, most: int, name: str) -> int:
    """Return a number of the query from 1 to ``most``; raises ``Refusal``."""
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most):
        raise unprocessable(f"/query/{name}", f"has to be a number from 1 to {most}")
    return int(text)


def id_of(request: web.Request) -> str:
    """Return the id in the path; one that no meeting can have raises ``Refusal``."""
    found = str(request.match_info["id"])
    if not ID.fullmatch(found):
        raise Refusal(HTTPStatus.NOT_FOUND)
    return found


def series_of(request: web.Request) -> str:
    """Return the series in the query, or nothing; raises ``Refusal`` for one that cannot be."""
    found = request.query.get("series")
    if found is not None and not ID.fullmatch(found):
        raise unprocessable("/query/series", "is no name of a series")
    return found or ""


def unprocessable(pointer: str, text: str) -> Refusal:
    """Return the refusal for one value."""
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, faults=[Fault(pointer, text)])


def time_of(query: Mapping[str, str], name: str, faults: list[Fault]) -> float | None:
    """Return a time of the query in seconds since 1970, or add a fault."""
    written = query.get(name)
    if written is None:
        return None
    # A plus sign in a query is a blank, unless it is written as %2B.
    return read_time(f"/query/{name}", re.sub(r" (\d\d:\d\d)$", r"+\1", written), faults)


async def patch_of(request: web.Request) -> dict[str, Any]:
    """Return the merge patch of a request; raises ``Refusal``."""
    patch = await document_of(request, MERGE_PATCH, JSON)
    if not isinstance(patch, dict):
        raise unprocessable("", "must be a JSON object")
    return patch


def check_conditions(request: web.Request, meeting: Meeting | None) -> None:
    """Raise ``Refusal`` unless a meeting is as the headers demand (RFC 9110, 13.1)."""
    for name, is_wanted in ((hdrs.IF_MATCH, True), (hdrs.IF_NONE_MATCH, False)):
        if (header := request.headers.get(name)) is None:
            continue
        named = {one.strip().strip('"') for one in header.split(",")}
        etag = None if meeting is None or meeting.cancelled_at is not None else meeting.etag
        is_found = etag is not None and not named.isdisjoint((etag, "*"))
        if is_found != is_wanted:
            raise Refusal(HTTPStatus.PRECONDITION_FAILED, f"{name} does not hold")
