"""The undocumented parts of aiohttp that the server relies on.

They stand here alone and are compared when this module is imported, so that a release of aiohttp
that changes them is refused at the start and not noticed in a call.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import aiohttp
from aiohttp import web, web_protocol
from aiohttp.http import HttpRequestParser

from pexpolicy.server.http.request_parser import MAX_HEADERS, BoundedParser

TESTED = "3.14.5"
"""The release of aiohttp that all of this was tested with."""
OF_PROTOCOL = (
    *("_messages", "_parser", "_task_handler", "transport", "writing_paused"),
    *("connection_made", "connection_lost", "data_received", "eof_received"),
    *("pause_writing", "resume_writing", "close", "force_close", "shutdown", "handle_error"),
)
"""What is used of aiohttp's protocol, or overridden."""
OF_PARSER = ("feed_data", "message_consumed", "set_upgraded")
"""What aiohttp's protocol uses of its parser, besides what requests without a body do not need."""
OF_MODULE = ("MAX_MSG_QUEUE_SIZE",)


def require(source: object, names: tuple[str, ...], version: str = aiohttp.__version__) -> None:
    """Raise ``ImportError`` where something of aiohttp has not all of these attributes."""
    missing = ", ".join(name for name in names if not hasattr(source, name))
    if missing:
        where = getattr(source, "__name__", repr(source))
        msg = f"aiohttp {version} cannot be used: its {where} has no {missing}. {_REMEDY}"
        raise ImportError(msg)


def forbid(source: object, names: tuple[str, ...], version: str = aiohttp.__version__) -> None:
    """Raise ``ImportError`` where something of aiohttp has one of these attributes already."""
    taken = ", ".join(name for name in names if hasattr(source, name))
    if taken:
        where = getattr(source, "__name__", repr(source))
        msg = f"aiohttp {version} cannot be used: its {where} has {taken} too. {_REMEDY}"
        raise ImportError(msg)


_REMEDY = f"Install the release that pexpolicy was tested with: pip install aiohttp=={TESTED}"

require(web.RequestHandler, OF_PROTOCOL)
require(HttpRequestParser, OF_PARSER)
require(web_protocol, OF_MODULE)


class BoundedHandler(web.RequestHandler):
    """aiohttp's protocol for requests without a body, of a bounded length.

    ``requests`` is what parses them, and ``event_loop`` the loop that it runs on.
    """

    __slots__ = ("event_loop", "requests")

    def __init_subclass__(cls) -> None:
        """Compare the names that a subclass adds with those of aiohttp."""
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
            access_log=_silent(),
            keepalive_timeout=idle_seconds,
            max_line_size=header_bytes,
            max_field_size=header_bytes,
            max_headers=MAX_HEADERS,
            auto_decompress=False,
            logger=_silent(),
        )
        self.event_loop = loop
        self.requests = BoundedParser(
            cast("HttpRequestParser", self._parser),
            limit=header_bytes,
            queued=self._messages,
            queue=web_protocol.MAX_MSG_QUEUE_SIZE,
        )
        self._parser = cast("Any", self.requests)

    @property
    def reading(self) -> asyncio.Task[None] | None:
        """The task that answers the requests of the connection."""
        return self._task_handler

    def connection_lost(self, exc: BaseException | None) -> None:
        """Drop what was not answered."""
        self.requests.close()
        super().connection_lost(exc)


forbid(web.RequestHandler, BoundedHandler.__slots__)


def _silent() -> logging.Logger:
    """Make a logger for aiohttp's own messages, which hold what clients sent: nothing reads it."""
    logger = logging.getLogger("pexpolicy.http")
    logger.disabled = True
    return logger
