"""A receiver of events on loopback, and decisions to send to it."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from pexpolicy import Conference, Outcome
from pexpolicy.testing import make_request
from tests.support.waiting import until

Opened = Callable[..., AbstractAsyncContextManager[Any]]
"""Opens the plugin with settings."""


@dataclass
class Receiver:
    """What came, and what is replied to the next requests."""

    url: str = ""
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    """Ids of the events of accepted requests."""
    replies: list[int | tuple[int, dict[str, str]]] = field(default_factory=list)
    refuses: str = ""
    """The id of an event that is refused."""

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append(({k.lower(): v for k, v in request.headers.items()}, body))
        reply = self.replies.pop(0) if self.replies else 204
        status, headers = reply if isinstance(reply, tuple) else (reply, {})
        if status == 0:
            await asyncio.sleep(3600)
        found = json.loads(body)
        events = found if isinstance(found, list) else [found]
        if any(event["id"] == self.refuses for event in events):
            status = 422
        if status < 300:
            self.accepted += [event["id"] for event in events]
        return web.Response(status=status, headers=headers)

    async def has(self, count: int) -> list[str]:
        """Wait until as many events were accepted."""
        await until(lambda: len(self.accepted) >= count)
        return self.accepted


def outcomes(begin: int, end: int, endpoint: str = "media_location") -> list[Outcome]:
    """Outcomes with their numbers as ids."""
    line = b'{"timestamp":"2026-11-25T01:29:14.087017Z","event":"decision","peer":"127.0.0.1"}'
    asked = make_request(endpoint)
    decision = Conference(name="Room", service_tag="")
    return [
        Outcome(f"{number}", endpoint, asked, decision, "rooms", [], audit_line=line)
        for number in range(begin, end)
    ]
