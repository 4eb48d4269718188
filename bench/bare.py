"""The unit of measure: an aiohttp application that answers constant bytes and does nothing else.

Run as ``python -m bench.bare PORT REPLY``. REPLY names a file; its content is sent as the JSON
body of every ``GET /policy/v1/service/configuration``. Access log off, uvloop where installed.
"""

import asyncio
import sys
from pathlib import Path

from aiohttp import web

ROUTE = "/policy/v1/service/configuration"


def application(reply: bytes) -> web.Application:
    """An application of one route that answers every call with ``reply``."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=reply, content_type="application/json")

    app = web.Application()
    app.router.add_get(ROUTE, answer)
    return app


def new_loop() -> asyncio.AbstractEventLoop:
    """A uvloop event loop where uvloop is installed, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def main() -> None:
    """Serve on loopback until SIGTERM or SIGINT."""
    port, reply = int(sys.argv[1]), Path(sys.argv[2]).read_bytes()
    web.run_app(
        application(reply),
        host="127.0.0.1",
        port=port,
        access_log=None,
        print=None,
        shutdown_timeout=1.0,
        loop=new_loop(),
    )


if __name__ == "__main__":
    main()
