"""A response that is made whole: what leaves."""

import re

from tests.support import wire
from tests.support.fake_plugins import Serve


async def test_the_headers_that_leave(serving: Serve) -> None:
    async with serving({}) as server:
        reply = await server.ask(wire.SERVICE)
    headers = dict(reply.headers)
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", headers.pop("date"))
    assert headers == {
        "server": "pexpolicy",
        "content-type": "application/json",
        "content-length": str(len(reply.body)),
        "connection": "close",
    }
