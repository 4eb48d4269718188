"""The undocumented parts of aiohttp that the server relies on.

They are used in this module only and checked when it is imported, so an incompatible release of
aiohttp fails at start-up and not during a call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, cast

import aiohttp
from aiohttp import web, web_protocol
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser

from pexpolicy.server.http.body_parser import BodyLimit, BodyParser
from pexpolicy.server.http.request_parser import MAX_HEADERS, BoundedParser

TESTED_VERSION = "3.14.5"
"""The release of aiohttp that the server is tested with."""
PROTOCOL_ATTRIBUTES = (
    *("_messages", "_parser", "_task_handler", "transport", "writing_paused"),
    *("connection_made", "connection_lost", "data_received", "eof_received"),
    *("pause_writing", "resume_writing", "close", "force_close", "shutdown", "handle_error"),
)
"""Attributes of aiohttp's protocol that are used or overridden."""
PARSER_ATTRIBUTES = ("feed_data", "message_consumed", "set_upgraded")
"""Attributes that aiohttp's protocol uses of its parser for requests without a body."""


def require(source: object, names: tuple[str, ...], version: str = aiohttp.__version__) -> None:
    """Raise ``ImportError`` if an object of aiohttp lacks one of these attributes."""
    missing = ", ".join(name for name in names if not hasattr(source, name))
    if missing:
        where = getattr(source, "__name__", repr(source))
        msg = f"aiohttp {version} cannot be used: its {where} has no {missing}. {_HINT}"
        raise ImportError(msg)


def forbid(source: object, names: tuple[str, ...], version: str = aiohttp.__version__) -> None:
    """Raise ``ImportError`` if an object of aiohttp has one of these attributes."""
    taken = ", ".join(name for name in names if hasattr(source, name))
    if taken:
        where = getattr(source, "__name__", repr(source))
        msg = f"aiohttp {version} cannot be used: its {where} also has {taken}. {_HINT}"
        raise ImportError(msg)


_logger = logging.getLogger("pexpolicy.http")
"""The logger for aiohttp's own messages, which is disabled because they repeat client input."""
_logger.disabled = True

_HINT = f"Install the release that pexpolicy was tested with: pip install aiohttp=={TESTED_VERSION}"

require(web.RequestHandler, PROTOCOL_ATTRIBUTES)
require(BaseProtocol, ("connection_made", "transport"))
require(HttpRequestParser, PARSER_ATTRIBUTES)
require(web_protocol, ("MAX_MSG_QUEUE_SIZE",))
require(web.Application, ("_handle",))


class _WithoutSocketOptions(BaseProtocol):
    """The base of aiohttp's protocol, which does not set ``TCP_NODELAY``: sockets inherit it.

    asyncio sets it only on sockets that were created with the number of the protocol.
    """

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self.transport = cast("asyncio.Transport", transport)


class BoundedHandler(web.RequestHandler, _WithoutSocketOptions):
    """aiohttp's protocol, limited to requests of a bounded length, without a body by default.

    ``requests`` is the parser and ``event_loop`` the loop of the connection.
    """

    __slots__ = ("event_loop", "requests")

    bodies: ClassVar[BodyLimit | None] = None
    """The bodies that requests may have."""

    def __init_subclass__(cls) -> None:
        """Check that a subclass overrides no attribute of aiohttp by accident."""
        super().__init_subclass__()
        forbid(web.RequestHandler, tuple(cls.__slots__))

    def __init__(
        self,
        server: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        header_bytes: int,
        idle_seconds: float,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=cast("Any", None),  # aiohttp accepts none, but its annotation does not
            # Accepted sockets inherit this from the listening socket.
            tcp_keepalive=False,
            keepalive_timeout=idle_seconds,
            max_line_size=header_bytes,
            max_field_size=header_bytes,
            max_headers=MAX_HEADERS,
            auto_decompress=False,
            logger=_logger,
        )
        self.event_loop = loop
        parser = cast("HttpRequestParser", self._parser)
        limits = {"limit": header_bytes, "max_queued": web_protocol.MAX_MSG_QUEUE_SIZE}
        self.requests = (
            BoundedParser(parser, queued=self._messages, **limits)
            if self.bodies is None
            else BodyParser(parser, queued=self._messages, bodies=self.bodies, **limits)
        )
        self._parser = cast("Any", self.requests)

    @property
    def reading(self) -> asyncio.Task[None] | None:
        """The task that answers the requests of the connection."""
        return self._task_handler

    def connection_lost(self, exc: BaseException | None) -> None:
        """Discard unanswered requests."""
        self.requests.close()
        super().connection_lost(exc)


forbid(web.RequestHandler, (*BoundedHandler.__slots__, "bodies"))


def routed_server(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], body_bytes: int
) -> web.Server:
    """Return a server whose requests an application can route; call it with a running loop."""
    loop = asyncio.get_running_loop()

    def request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.Request:
        return web.Request(
            message, payload, protocol, writer, task, loop, client_max_size=body_bytes
        )

    return web.Server(cast("Any", handler), request_factory=request)


async def route(app: web.Application, request: web.Request) -> web.StreamResponse:
    """Return the response of the handler that the application has for a request.

    Raise ``web.HTTPException`` if there is none, and whatever the handler raises.
    """
    return await app._handle(request)  # noqa: SLF001 - checked above
