"""Sender: delivers the events of the spool as CloudEvents until the receiver accepts them."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import random
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson
from pydantic import Field

from pexpolicy import Outcome, Secret, get_logger, metrics
from pexpolicy.config.outgoing import HttpSettings
from pexpolicy.config.schema import EndpointName
from pexpolicy.conformance.replies import Reply
from pexpolicy.files import WrittenFolder
from pexpolicy_webhook.spool import Segment, Spool


class WebhookSettings(HttpSettings):
    """``[plugins.webhook.settings]``. Times in seconds."""

    spool: WrittenFolder
    """Folder of the events that are not delivered yet; created if it does not exist."""
    spool_mb: int = Field(256, ge=1, le=1_000_000)
    """Size of the folder in MiB. When it is full, events wait in the memory of the server."""
    batch: int = Field(1, ge=1, le=1000)
    """Events of a request: 1 sends each as a structured CloudEvent, more sends JSON batches."""
    timeout: float = Field(10.0, gt=0.0, le=300.0)
    """For one request, the connection included."""
    endpoints: list[EndpointName] = []
    """The requests whose decisions are sent; all six when none is named."""
    source: str = Field(
        default_factory=lambda: f"urn:pexpolicy:{socket.gethostname()}", min_length=1
    )
    """``source`` of the events; by default ``urn:pexpolicy:`` and the name of the machine."""
    secret: Secret | None = None
    """The secret that signs requests (HMAC); without a secret they are not signed."""


TYPE = "pexpolicy.decision"
STRUCTURED = "application/cloudevents+json; charset=utf-8"
BATCH = "application/cloudevents-batch+json; charset=utf-8"
PREFIX = "whsec_"
"""Before a secret in base64, as in Standard Webhooks."""


def event_of(outcome: Outcome, source: str) -> bytes:
    """Return the event of a decision as one line of JSON. Its ``data`` is the audit line."""
    line: dict[str, Any] = orjson.loads(outcome.audit_line) if outcome.audit_line else {}
    event = {
        "specversion": "1.0",
        "id": outcome.decision_id,
        "source": source,
        "type": TYPE,
        "subject": outcome.endpoint,
        "time": line.get("timestamp") or datetime.now(UTC),
        "datacontenttype": "application/json",
        "data": orjson.Fragment(outcome.audit_line or b"null"),
    }
    return orjson.dumps(event)


def signing_key(secret: str) -> bytes:
    """Return the key of a secret: decoded base64 after ``whsec_``, otherwise the text itself.

    Raises ``ValueError`` for one that is too short or not base64.
    """
    key = secret.encode()
    if secret.startswith(PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except binascii.Error:
            raise ValueError(f"what follows {PREFIX} is not base64") from None
    if len(key) < 16:  # noqa: PLR2004 - 128 bits
        msg = "the secret is shorter than 16 bytes: generate one, such as with openssl rand -hex 32"
        raise ValueError(msg)
    return key


def signed(key: bytes | None, message_id: str, at: int, body: bytes) -> dict[str, str]:
    """Return the headers of Standard Webhooks: id, time in seconds, and a signature with a key.

    The signature is HMAC-SHA256 of ``id.time.body``.
    """
    headers = {"webhook-id": message_id, "webhook-timestamp": str(at)}
    if key is not None:
        content = f"{message_id}.{at}.".encode() + body
        digest = hmac.new(key, content, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


MAX_BODY = 1 << 20
"""Bytes of a request, unless one event is larger."""
MIN_PAUSE_S = 0.5
MAX_PAUSE_S = 60.0
"""Pause after the first failure and the longest one; doubled each time, with 50 % of jitter."""
ADOPT_S = 2.0
"""Seconds between two searches for segments of instances that have ended."""
FINISH_S = 1.0
"""Seconds to deliver the rest at a reload and at the end; what is left stays in the spool."""
MAX_REPLY = 65536
MAX_REPLY_S = 1.0
"""Bytes and seconds to read the body of a reply, so that its connection can be used again."""
REFUSALS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)
"""Replies that refuse the content: another attempt would not help."""

DELIVERED = metrics.counter("events_delivered_total", "Events that the receiver accepted.")
REFUSED = metrics.counter("events_refused_total", "Events that were refused or damaged.")
FAILED = metrics.counter("requests_failed_total", "Requests that are repeated.", ["reason"])
FAILING = metrics.gauge("failing", "1 while the receiver does not accept events.", combine="max")
PENDING = metrics.gauge("pending_bytes", "Bytes of events that are not delivered yet.")
SPOOLED = metrics.gauge("spool_bytes", "Bytes of all files of the spool.", combine="max")
log = get_logger(__name__)


class _FailedError(Exception):
    """The receiver did not accept a request; ``reason`` is a label of the metric."""

    def __init__(self, reason: str, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.reason = reason
        self.retry_after = retry_after


class _RefusedError(Exception):
    """The receiver refused the content of a request, or an event in it is damaged."""


class Sender:
    """Sends the events of a spool with one request at a time."""

    def __init__(
        self,
        settings: WebhookSettings,
        spool: Spool,
        session: aiohttp.ClientSession,
        key: bytes | None,
    ) -> None:
        self._settings = settings
        self._spool = spool
        self._session = session
        self._key = key
        self._headers = settings.authorization()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._adopt_at = 0.0
        self.failing_since: float | None = None
        """The monotonic time since when no request was accepted."""
        self.problem = ""
        """Why the last request failed, or an empty text."""
        self.delivered = 0
        self.refused = 0

    def wake(self) -> None:
        """Look for new events now. Call it on the event loop."""
        self._idle.clear()
        self._arrived.set()

    async def finish(self) -> None:
        """Wait for the delivery of the rest, up to ``FINISH_S``, unless the receiver fails."""
        if self.failing_since is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), FINISH_S)

    async def run(self) -> None:
        """Deliver events until cancelled."""
        FAILING.set(0)
        while True:
            self._arrived.clear()
            try:
                is_idle = not await self._deliver_next()
            except (OSError, RuntimeError) as error:
                # RuntimeError: the process cannot start another thread.
                log.warning("the spool cannot be read", problem=str(error))
                await asyncio.sleep(ADOPT_S)
                continue
            if is_idle:
                if not self._arrived.is_set():
                    self._idle.set()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._arrived.wait(), ADOPT_S)

    def _measure(self) -> None:
        PENDING.set(self._spool.pending)
        SPOOLED.set(self._spool.used)

    async def _deliver_next(self) -> bool:
        """Deliver the next events, and record it; false if there are none."""
        if time.monotonic() >= self._adopt_at:
            await asyncio.to_thread(self._spool.adopt)
            self._adopt_at = time.monotonic() + ADOPT_S
        self._measure()
        taken = await asyncio.to_thread(self._spool.take, self._settings.batch, MAX_BODY)
        if taken is None:
            return False
        await self._deliver(*taken)
        return True

    async def _deliver(self, segment: Segment, events: Sequence[bytes]) -> None:
        """Send events; of a refused batch one by one, to find the one that is refused."""
        try:
            await self._send_until_accepted(events)
        except _RefusedError as error:
            if len(events) > 1:
                for event in events:
                    await self._deliver(segment, [event])
                return
            self.refused += 1
            REFUSED.inc()
            log.warning("an event is dropped", reason=str(error))
        else:
            self.delivered += len(events)
            DELIVERED.inc(len(events))
        await asyncio.to_thread(self._spool.acknowledge, segment, events)

    async def _send_until_accepted(self, events: Sequence[bytes]) -> None:
        """Send a request until it is accepted; raises ``_RefusedError``."""
        pause = MIN_PAUSE_S
        while True:
            try:
                await self._send(events)
            except _FailedError as error:
                self._fail(error)
                jittered = pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
                await asyncio.sleep(max(jittered, error.retry_after))
                pause = min(pause * 2, MAX_PAUSE_S)
            else:
                if self.failing_since is not None:
                    seconds = round(time.monotonic() - self.failing_since, 1)
                    log.warning("the receiver accepts events again", after_s=seconds)
                    FAILING.set(0)
                self.failing_since, self.problem = None, ""
                return

    async def _send(self, events: Sequence[bytes]) -> None:
        """Send one request; raises ``_FailedError`` and ``_RefusedError``."""
        batch = self._settings.batch > 1
        first, *_ = map(_id_of, events)
        body = b"[" + b",".join(events) + b"]" if batch else events[0]
        message_id = f"{first}-{len(events)}" if batch else first
        headers = {
            **self._headers,
            **signed(self._key, message_id, int(time.time()), body),
            "Content-Type": BATCH if batch else STRUCTURED,
        }
        try:
            async with self._session.post(
                self._settings.url, data=body, headers=headers, allow_redirects=False
            ) as response:
                # Its status counts, whether its body is complete or not.
                with suppress(aiohttp.ClientError, OSError, asyncio.IncompleteReadError):
                    async with asyncio.timeout(MAX_REPLY_S):
                        await response.content.readexactly(MAX_REPLY)
        except TimeoutError:
            text = f"no reply within {self._settings.timeout:.3g} s"
            raise _FailedError("timeout", text) from None
        except aiohttp.ClientResponseError:
            raise _FailedError("connection", "the reply is not HTTP") from None
        except (aiohttp.ClientError, OSError, UnicodeError) as error:  # the last of IDNA
            raise _FailedError("connection", f"{type(error).__name__}: {error}") from None
        status = response.status
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return
        reply = Reply(0.0, status, response.headers)
        if status in REFUSALS:
            raise _RefusedError(f"the receiver refused it: {reply.line}")
        raise _FailedError(str(status), reply.line, reply.retry_after)

    def _fail(self, error: _FailedError) -> None:
        self.problem = str(error)
        FAILED.inc(reason=error.reason)
        FAILING.set(1)
        if self.failing_since is None:
            self.failing_since = time.monotonic()
            pending = self._spool.pending
            problem = self.problem
            log.warning("the receiver accepts no events", problem=problem, pending_bytes=pending)
        self._measure()


def _id_of(event: bytes) -> str:
    """Return the id of an event; raises ``_RefusedError`` for one that is damaged."""
    try:
        found = orjson.loads(event)["id"]
    except (ValueError, LookupError, TypeError):
        found = None
    # It becomes a header, so nothing else may be in it.
    if isinstance(found, str) and found.isascii() and found.isprintable():
        return found
    raise _RefusedError("it is damaged in the spool, as after a power failure")
