"""Another policy server as one side of a replay."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from pexpolicy.conformance.http_client import Wire
from pexpolicy.endpoints.base import JPEG
from pexpolicy.replay.recorded_reply import RecordedReply, foreign_reply
from pexpolicy.replay.records import Call

CONCURRENT = 8
"""Requests at a time; a Conferencing Node has more."""
MAX_FAILURES = 20
"""Calls in a row without a reply after which the replay ends."""
NO_REPLY = "the server gave no reply"
_UNAUTHORIZED = 401


class ServerFailedError(Exception):
    """The server cannot be reached, or refuses access."""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The URL of a policy profile, the part before ``/policy/v1``, and how to reach it."""

    url: str
    authorization: str | None = None
    """The ``Authorization`` header."""
    ca_file: str | None = None

    def tls(self) -> ssl.SSLContext | None:
        """Return the context for an HTTPS URL; raises ``OSError`` for an unusable file."""
        if not self.url.startswith("https:"):
            return None
        return ssl.create_default_context(cafile=self.ca_file)


class PolicyServer:
    """Asks a policy server, several calls at a time."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._failures = 0
        self._slots = asyncio.Semaphore(CONCURRENT)

    async def replies(self, calls: Sequence[Call]) -> list[RecordedReply | str]:
        """Return the reply to each call, or why there is none; raise ``ServerFailedError``."""
        return await asyncio.gather(*map(self._reply, calls))

    async def _reply(self, call: Call) -> RecordedReply | str:
        async with self._slots:
            if self._failures >= MAX_FAILURES:
                return f"{NO_REPLY}: it was not asked"
            reply = await self._wire.get(call.url)
        if reply.status == _UNAUTHORIZED:
            msg = f"{self._wire.base} refuses access (401): user or password is wrong or missing"
            raise ServerFailedError(msg)
        if reply.failure or reply.torn:
            self._failures += 1
            if self._failures >= MAX_FAILURES:
                msg = f"{self._wire.base} does not answer: {reply.failure or 'the reply is torn'}"
                raise ServerFailedError(msg)
            return f"{NO_REPLY}: {reply.failure or 'it is torn'}"
        self._failures = 0
        if reply.media_type == JPEG:
            return RecordedReply("continue", reply.status, "a picture")
        try:
            body = msgspec.json.decode(reply.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            body = None
        return foreign_reply(call.endpoint, reply.status, body)
