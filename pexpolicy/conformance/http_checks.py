"""Checks of HTTP on the connection: body length, keep-alive, HEAD, access without credentials."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

from yarl import URL

from pexpolicy.conformance.findings import Finding, Topic, operation, violation, warning
from pexpolicy.conformance.http_client import CLOSED, MAX_BODY, NO_HTTP, Wire
from pexpolicy.errors import describe_network_error
from pexpolicy.models.rules import Confidence

RFC = "RFC 9112"
HEAD = "HEAD"
"""The name of the check that sends HEAD first."""
ANONYMOUS = "no credentials"
ENDED = "closed"
"""The fault of a connection that was closed before the first byte of a reply."""
UNANNOUNCED = (
    "the server closes the connection after a reply without Connection: close; "
    "a node loses the next request that it sends there"
)
MAX_HEAD = 64 * 1024


class BrokenReplyError(Exception):
    """The bytes on the connection are not a complete HTTP reply."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection whose bytes are read as they are; ``authorization`` is the header's value."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    host: str
    authorization: str | None

    async def ask(self, method: str, target: str) -> tuple[int, bool]:
        """Send one request and read its reply; return its status, and whether it is the last one.

        Raises ``BrokenReplyError``.
        """
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.host}", "Accept: */*"]
        if self.authorization is not None:
            lines.append(f"Authorization: {self.authorization}")
        self.writer.write("\r\n".join([*lines, "", ""]).encode())
        await self.writer.drain()
        return await self._read(method)

    async def next_fault(self, target: str) -> str:
        """Send another request; return the fault of its reply, or an empty text."""
        try:
            await self.ask("GET", target)
        except BrokenReplyError as error:
            return str(error)
        except ConnectionError:
            return ENDED
        return ""

    async def _read(self, method: str) -> tuple[int, bool]:
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError as error:
            text = "the head of the reply is incomplete" if error.partial else ENDED
            raise BrokenReplyError(text) from None
        except asyncio.LimitOverrunError:
            raise BrokenReplyError("the head of the reply has no end") from None
        first, *lines = head.split("\r\n")
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            text = "no reply follows the last one: its body was longer than announced"
            raise BrokenReplyError(text)
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        status = int(rest[:3])
        usual = "keep-alive" if version == "HTTP/1.1" else "close"
        closes = headers.get("connection", usual).lower() == "close"
        if method != HEAD and status not in (204, 304):
            closes = await self._skip_body(headers) or closes
        return status, closes

    async def _skip_body(self, headers: dict[str, str]) -> bool:
        """Read the body; return whether it ended with the connection."""
        try:
            if headers.get("transfer-encoding", "").lower() == "chunked":
                await self._skip_chunks()
                return False
            if "content-length" in headers:
                await self.reader.readexactly(min(int(headers["content-length"]), MAX_BODY))
                return False
        except asyncio.IncompleteReadError:
            raise BrokenReplyError("the body is shorter than announced") from None
        except ValueError:
            raise BrokenReplyError("the length of the body is not a number") from None
        await self.reader.read(MAX_BODY)
        return True

    async def _skip_chunks(self) -> None:
        while size := int((await self.reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            await self.reader.readexactly(min(size, MAX_BODY))
            await self.reader.readexactly(2)
        while (await self.reader.readuntil(b"\r\n")) != b"\r\n":
            pass


async def _keep_alive(connection: Connection, target: str) -> list[Finding]:
    """Send two requests on one connection: the second reply shows the length of the first."""
    _, closes = await connection.ask("GET", target)
    fault = "" if closes else await connection.next_fault(target)
    if fault not in ("", ENDED):
        raise BrokenReplyError(fault)
    return [warning(Topic.CONNECTION, UNANNOUNCED, RFC)] if fault else []


async def _head(connection: Connection, target: str) -> list[Finding]:
    """Send HEAD, as load balancers do; nodes never do, so a fault is a warning."""
    status, closes = await connection.ask(HEAD, target)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED:
        return [warning(Topic.STATUS, f"HEAD is answered with {status}")]
    fault = "" if closes else await connection.next_fault(target)
    has_body = fault not in ("", ENDED)
    return [warning(Topic.FRAMING, "the reply to HEAD has a body", RFC)] if has_body else []


async def _anonymous(connection: Connection, target: str) -> list[Finding]:
    """Send a request without credentials, which should be refused."""
    status, _ = await connection.ask("GET", target)
    if status != HTTPStatus.OK:
        return []
    return [warning(Topic.AUTHENTICATION, "the server also answers without credentials")]


_CHECKS: Mapping[str, Callable[[Connection, str], Awaitable[list[Finding]]]] = {
    "two requests on one connection": _keep_alive,
    HEAD: _head,
    ANONYMOUS: _anonymous,
}


class HttpChecks:
    """The checks of a server's HTTP, by name; each has a connection and a time limit of its own."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.names = [n for n in _CHECKS if n != ANONYMOUS or wire.authorization is not None]

    async def run(self, name: str, target: str) -> list[Finding]:
        """Return the findings of one check, which requests ``target``."""
        limit = self._wire.limit
        try:
            async with asyncio.timeout(limit), self._connection(name) as connection:
                return await _CHECKS[name](connection, target)
        except BrokenReplyError as error:
            if str(error) == ENDED:
                return [operation(Topic.CONNECTION, f"no reply: {CLOSED}")]
            return [violation(Topic.FRAMING, str(error), RFC)]
        except TimeoutError:
            text = f"no whole reply within {limit:g} s"
            return [violation(Topic.TIME, text, Confidence.TRANSCRIBED)]
        except OSError as error:
            reset = isinstance(error, ConnectionResetError)
            reason = CLOSED if reset else describe_network_error(error)
            return [operation(Topic.CONNECTION, f"no reply: {reason}")]
        except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return [violation(Topic.FRAMING, f"no reply: {NO_HTTP}")]

    @asynccontextmanager
    async def _connection(self, name: str) -> AsyncIterator[Connection]:
        url = URL(self._wire.base, encoded=True)
        https = url.scheme == "https"
        tls = (self._wire.tls or ssl.create_default_context()) if https else None
        reader, writer = await asyncio.open_connection(url.host, url.port, ssl=tls, limit=MAX_HEAD)
        host = url.authority.rpartition("@")[2]
        authorization = None if name == ANONYMOUS else self._wire.authorization
        try:
            yield Connection(reader, writer, host, authorization)
        finally:
            writer.close()
