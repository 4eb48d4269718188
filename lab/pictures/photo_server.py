"""A web server with the same photo at each path, started with a port."""

import sys

from aiohttp import web

from tests.support.avatars import picture

PHOTO = picture((400, 300))


async def _photo(_: web.Request) -> web.Response:
    return web.Response(body=PHOTO)


if __name__ == "__main__":
    app = web.Application()
    app.router.add_get("/{rest:.*}", _photo)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
