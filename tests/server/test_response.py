"""A response that is made whole: what it says of itself is what leaves."""

import pytest
from aiohttp import hdrs

from pexpolicy.endpoints.base import JSON
from pexpolicy.server.http.response import SERVER, TEXT, PrerenderedResponse
from tests.support import wire
from tests.support.fake_plugins import Serve


@pytest.mark.parametrize(
    ("status", "kind", "reason"), [(200, JSON, "OK"), (404, "", "Not Found"), (503, TEXT, None)]
)
def test_it_has_a_status_a_reason_and_headers(status: int, kind: str, reason: str | None) -> None:
    response = PrerenderedResponse(status, kind, b"body", extra=b"\r\nAllow: GET, HEAD")
    assert response.status == status
    assert response.reason == (reason or "Service Unavailable")
    expected = {"Server": SERVER, "Content-Length": "4", "Allow": "GET, HEAD"}
    assert dict(response.headers) == expected | ({"Content-Type": kind} if kind else {})
    assert response.headers[hdrs.CONTENT_LENGTH] == "4"
    assert repr(response) == f"<PrerenderedResponse {status} {response.reason}, 4 bytes>"


async def test_the_headers_are_those_that_leave(serving: Serve) -> None:
    async with serving({}) as server:
        reply = await server.ask(wire.SERVICE)
    response = PrerenderedResponse(200, JSON, reply.body)
    headers = {name.lower(): value for name, value in response.headers.items()}
    assert headers.items() <= reply.headers.items()
    assert reply.headers.keys() - headers.keys() == {"connection", "date"}
