"""The reason and the status for a request that cannot be read."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp.http_exceptions import LineTooLong

from pexpolicy.access.refusals import BODY, FAULT, MALFORMED, TOO_LARGE
from pexpolicy.server.http.body_parser import BodyTooLargeError
from pexpolicy.server.http.request_parser import (
    HeadTooLargeError,
    HttpVersionError,
    RequestBodyError,
)


def refusal_of(error: BaseException | None, status: int) -> tuple[str, int]:
    """Return the reason and the status for an error to which aiohttp gives this status."""
    match error:
        case BodyTooLargeError():
            return BODY, HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        case RequestBodyError():
            return BODY, status
        case HttpVersionError():
            return MALFORMED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
        case HeadTooLargeError() | LineTooLong():
            return TOO_LARGE, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        case _:
            return (FAULT if status >= HTTPStatus.INTERNAL_SERVER_ERROR else MALFORMED), status
