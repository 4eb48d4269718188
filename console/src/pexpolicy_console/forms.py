"""The form in the body of a POST request, read before any handler runs."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from aiohttp import hdrs, web

CONTENT_TYPES = (
    "application/x-www-form-urlencoded",
    "application/x-www-form-urlencoded;charset=utf-8",
)
"""What browsers and htmx send, without blanks and in lower case."""
MAX_BODY = 1 << 20
MAX_FIELDS = 64
FORM: web.RequestKey[Mapping[str, str]] = web.RequestKey("form", Mapping[str, str])


def form_of(request: web.Request) -> Mapping[str, str]:
    """Return the fields of a POST request."""
    return request[FORM]


async def read_form(request: web.Request) -> dict[str, str]:
    """Return the fields of a URL-encoded form in UTF-8, with one value each.

    Raises ``HTTPException``. The protocol of the console has received the whole body by now.
    """
    kinds = request.headers.getall(hdrs.CONTENT_TYPE, ())
    if len(kinds) != 1 or "".join(kinds[0].split()).lower() not in CONTENT_TYPES:
        raise web.HTTPUnsupportedMediaType(text=f"send a form as {CONTENT_TYPES[0]} in UTF-8")
    if hdrs.CONTENT_ENCODING in request.headers:
        raise web.HTTPUnsupportedMediaType(text="send the form without compression")
    body = await request.read()
    try:
        fields = parse_qsl(
            body.decode(),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:
        raise web.HTTPBadRequest(text="the form is malformed") from None
    form = dict(fields)
    if len(form) != len(fields):
        raise web.HTTPBadRequest(text="a field of the form is there twice")
    return form
