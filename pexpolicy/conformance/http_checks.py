"""Checks of HTTP on the connection: body length, keep-alive, HEAD, access without credentials."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from yarl import URL

from pexpolicy.conformance.findings import Finding, Topic, operation, violation, warning
from pexpolicy.conformance.http_client import CLOSED, MAX_BODY, NO_HTTP
from pexpolicy.errors import describe_network_error
from pexpolicy.models.rules import Confidence

RFC = "RFC 9112"
HEAD = "HEAD"
"""The name of the check that sends HEAD first."""
ENDED = "closed"
"""The fault of a connection that was closed before the first byte of a reply."""
UNANNOUNCED = (
    "the server closes the connection after a reply without Connection: close; "
    "a node loses the next request that it sends there"
)
MAX_HEAD = 64 * 1024
Check = Callable[[str], Awaitable[list[Finding]]]


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    closes: bool
    body: bytes


class BrokenReplyError(Exception):
    """The bytes on the connection are not a complete HTTP reply."""


class Connection:
    """One connection whose bytes are read as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, method: str, target: str, host: str, authorization: str | None) -> _Answer:
        """Send one request and read its reply; raises ``BrokenReplyError``."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Accept: */*"]
        if authorization is not None:
            lines.append(f"Authorization: {authorization}")
        self._writer.write("\r\n".join([*lines, "", ""]).encode())
        await self._writer.drain()
        return await self._read(method)

    async def _read(self, method: str) -> _Answer:
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError as error:
            raise BrokenReplyError(
                ENDED if not error.partial else "the head of the reply is incomplete"
            ) from None
        except asyncio.LimitOverrunError:
            raise BrokenReplyError("the head of the reply has no end") from None
        first, *lines = head.split("\r\n")
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise BrokenReplyError(
                "no reply follows the last one: its body was longer than announced"
            )
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        status = int(rest[:3])
        connection = headers.get(
            "connection", "keep-alive" if version == "HTTP/1.1" else "close"
        ).lower()
        if method == "HEAD" or status in (204, 304):
            return _Answer(status, connection == "close", b"")
        body, ended = await self._body(headers)
        return _Answer(status, ended or connection == "close", body)

    async def _body(self, headers: dict[str, str]) -> tuple[bytes, bool]:
        try:
            if headers.get("transfer-encoding", "").lower() == "chunked":
                return await self._chunks(), False
            if "content-length" in headers:
                return await self._reader.readexactly(
                    min(int(headers["content-length"]), MAX_BODY)
                ), False
        except asyncio.IncompleteReadError:
            raise BrokenReplyError("the body is shorter than announced") from None
        except ValueError:
            raise BrokenReplyError("the length of the body is not a number") from None
        return await self._reader.read(MAX_BODY), True

    async def _chunks(self) -> bytes:
        body = bytearray()
        while size := int((await self._reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            body += await self._reader.readexactly(min(size, MAX_BODY))
            await self._reader.readexactly(2)
        while (await self._reader.readuntil(b"\r\n")) != b"\r\n":
            pass
        return bytes(body)


class HttpChecks:
    """The checks of a server's HTTP; each takes ``limit`` seconds at most."""

    def __init__(
        self, base: str, authorization: str | None, limit: float, tls: ssl.SSLContext | None = None
    ) -> None:
        self._url = URL(base, encoded=True)
        self._authorization = authorization
        self._limit = limit
        self._tls = tls

    @property
    def checks(self) -> dict[str, Check]:
        """Return the checks by name; each takes the target to request."""
        found: dict[str, Check] = {
            "two requests on one connection": self.keep_alive,
            HEAD: self.head,
        }
        if self._authorization is not None:
            found["no credentials"] = self.anonymous
        return found

    async def keep_alive(self, target: str) -> list[Finding]:
        """Send two requests on one connection: the second reply shows the length of the first."""

        async def twice(connection: Connection) -> list[Finding]:
            first = await self._ask(connection, "GET", target)
            fault = "" if first.closes else await self._next_fault(connection, target)
            if fault not in ("", ENDED):
                raise BrokenReplyError(fault)
            return [warning(Topic.CONNECTION, UNANNOUNCED, RFC)] if fault else []

        return await self._on_connection(twice)

    async def head(self, target: str) -> list[Finding]:
        """Send HEAD, as load balancers do; nodes never do, so a fault is a warning."""

        async def once(connection: Connection) -> list[Finding]:
            answer = await self._ask(connection, HEAD, target)
            if (
                answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR
                and answer.status != HTTPStatus.NOT_IMPLEMENTED
            ):
                return [warning(Topic.STATUS, f"HEAD is answered with {answer.status}")]
            fault = "" if answer.closes else await self._next_fault(connection, target)
            has_body = fault not in ("", ENDED)
            return [warning(Topic.FRAMING, "the reply to HEAD has a body", RFC)] if has_body else []

        return await self._on_connection(once)

    async def _next_fault(self, connection: Connection, target: str) -> str:
        """Send another request; return the fault of its reply, or an empty text."""
        try:
            await self._ask(connection, "GET", target)
        except BrokenReplyError as error:
            return str(error)
        except ConnectionError:
            return ENDED
        return ""

    async def anonymous(self, target: str) -> list[Finding]:
        """Send a request without credentials, which should be refused."""

        async def once(connection: Connection) -> list[Finding]:
            answer = await connection.ask("GET", target, self._host, None)
            if answer.status != HTTPStatus.OK:
                return []
            return [warning(Topic.AUTHENTICATION, "the server also answers without credentials")]

        return await self._on_connection(once)

    @property
    def _host(self) -> str:
        return self._url.authority.rpartition("@")[2]

    async def _ask(self, connection: Connection, method: str, target: str) -> _Answer:
        return await connection.ask(method, target, self._host, self._authorization)

    async def _on_connection(
        self, check: Callable[[Connection], Awaitable[list[Finding]]]
    ) -> list[Finding]:
        https = self._url.scheme == "https"
        tls = (self._tls or ssl.create_default_context()) if https else None
        try:
            async with asyncio.timeout(self._limit):
                reader, writer = await asyncio.open_connection(
                    self._url.host, self._url.port, ssl=tls, limit=MAX_HEAD
                )
                try:
                    return await check(Connection(reader, writer))
                finally:
                    writer.close()
        except BrokenReplyError as error:
            if str(error) == ENDED:
                return [operation(Topic.CONNECTION, f"no reply: {CLOSED}")]
            return [violation(Topic.FRAMING, str(error), RFC)]
        except TimeoutError:
            text = f"no whole reply within {self._limit:g} s"
            return [violation(Topic.TIME, text, Confidence.TRANSCRIBED)]
        except OSError as error:
            reset = isinstance(error, ConnectionResetError)
            reason = CLOSED if reset else describe_network_error(error)
            return [operation(Topic.CONNECTION, f"no reply: {reason}")]
        except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return [violation(Topic.FRAMING, f"no reply: {NO_HTTP}")]
