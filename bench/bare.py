"""Bare aiohttp application with a constant reply, the unit of measurement.

Run as ``python -m bench.bare PORT REPLY [CERTIFICATE KEY]``. REPLY names a file; its content is
sent as the JSON body of every ``GET /policy/v1/service/configuration``. It keeps no access log, and
runs on uvloop where that is installed.
"""

import asyncio
import ssl
import sys
from pathlib import Path

from aiohttp import web

ROUTE = "/policy/v1/service/configuration"


def application(reply: bytes) -> web.Application:
    """Return an application with one route that answers every call with ``reply``."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=reply, content_type="application/json")

    app = web.Application()
    app.router.add_get(ROUTE, answer)
    return app


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a uvloop event loop if uvloop is installed, else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _tls(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


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
        ssl_context=_tls(*sys.argv[3:5]) if len(sys.argv) > 3 else None,
    )


if __name__ == "__main__":
    main()
