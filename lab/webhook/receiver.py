"""A receiver that stores the id of each event before it replies.

Started as `python -m lab.webhook.receiver PORT FILE`. `POST /delay?seconds=1` delays
the replies.
"""

import asyncio
import json
import os
import sys

from aiohttp import web


def application(path: str) -> web.Application:
    """Return the receiver; it appends ids to a file."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    delay = [0.0]

    async def events(request: web.Request) -> web.Response:
        found = json.loads(await request.read())
        await asyncio.sleep(delay[0])
        os.write(file, "".join(f"{event['id']}\n" for event in found).encode())
        return web.Response(status=204)

    async def set_delay(request: web.Request) -> web.Response:
        delay[0] = float(request.query["seconds"])
        return web.Response()

    app = web.Application(client_max_size=16 << 20)
    app.add_routes([web.post("/events", events), web.post("/delay", set_delay)])
    return app


if __name__ == "__main__":
    web.run_app(
        application(sys.argv[2]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        print=None,
        access_log=None,
    )
