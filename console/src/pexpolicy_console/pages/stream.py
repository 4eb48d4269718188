"""What an open page asks for: new decisions, as server-sent events, and the state of the server."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import suppress
from functools import partial
from http import HTTPStatus

import aiohttp_jinja2
from aiohttp import hdrs, web

from pexpolicy_console.context import SESSION, console_of
from pexpolicy_console.index.index import IndexUnavailable
from pexpolicy_console.index.query import Query
from pexpolicy_console.index.reader import Hit, IndexReader
from pexpolicy_console.login.pages import session_cookie
from pexpolicy_console.login.sessions import is_current
from pexpolicy_console.pages.decisions import row_of
from pexpolicy_console.pages.page import Page, record_view, render

TICK_S = 0.25
"""Between two searches for new lines."""
BUSY_INTERVAL_S = 1.0
"""After an event that leaves lines out. Each costs the browser a frame, and people cannot read rows
that change faster.
"""
MAX_ROWS = 25
"""Rows in an event; further ones are counted."""
MAX_STREAMS = 64
MAX_STREAMS_OF_USER = 16
"""So that one user leaves streams to the others."""
COMMENT_INTERVAL_S = 15.0
"""A comment keeps proxies from closing a silent stream."""


async def stream(request: web.Request) -> web.StreamResponse:
    """Send the lines of a list that are newer than ``after``, a number in the index, until the
    browser, or its session, is gone.
    """
    session, streams = request[SESSION], console_of(request).streams
    query, after = Query.of(request.query), request.query.get("after", "0")
    if query.problems() or not after.isdecimal() or len(after) > 15:  # noqa: PLR2004
        return web.Response(status=HTTPStatus.BAD_REQUEST, text="the filters are not valid\n")
    if streams.total() >= MAX_STREAMS or streams[session.user] >= MAX_STREAMS_OF_USER:
        return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text="too many streams\n")
    record_view(request, filters=query.params())
    headers = {hdrs.CONTENT_TYPE: "text/event-stream", "X-Accel-Buffering": "no"}
    response = web.StreamResponse(headers=headers)
    streams[session.user] += 1
    try:
        await response.prepare(request)
        await _send(request, response, query, int(after))
    except ConnectionError:
        pass
    finally:
        streams[session.user] -= 1
    return response


async def _send(
    request: web.Request, response: web.StreamResponse, query: Query, after: int
) -> None:
    # Browsers that lost the same server come back at different times.
    await response.write(b"retry: %d\n\n" % random.randint(1000, 4000))  # noqa: S311 - no secret
    silent = pause = 0.0
    while _is_open(request):
        hits, left_out = list[Hit](), 0
        with suppress(IndexUnavailable):
            search = partial(IndexReader.newer, query=query, after=after, limit=MAX_ROWS)
            hits, left_out = await console_of(request).index.ask(search)
        if hits:
            after = hits[0].id
            await response.write(_event(request, query, hits, left_out))
        silent = 0.0 if hits else silent + pause
        if silent >= COMMENT_INTERVAL_S:
            silent = 0.0
            await response.write(b":\n\n")
        pause = BUSY_INTERVAL_S if left_out else TICK_S
        await asyncio.sleep(pause)


def _event(request: web.Request, query: Query, hits: list[Hit], left_out: int) -> bytes:
    rows = [row_of(hit) for hit in hits]
    if not query.requests:
        worst = {row.call: row for row in sorted(rows, key=lambda row: (row.rank, -row.id))}
        rows = [row for row in rows if worst[row.call] is row]
    context = {"rows": rows, "query": query}
    html = aiohttp_jinja2.render_string("decision_rows.html", request, context)
    data = json.dumps({"rows": html, "count": len(hits), "left_out": left_out})
    return f"event: rows\ndata: {data}\n\n".encode()


def _is_open(request: web.Request) -> bool:
    """Return whether the browser is there, the session open, and its user not removed."""
    if request.transport is None or request.transport.is_closing():
        return False
    console, session = console_of(request), request[SESSION]
    return console.sessions.is_open(session, session_cookie(request)) and is_current(
        session, console.config.settings.console
    )


async def fresh(request: web.Request) -> web.StreamResponse:
    """Show what the header of each page says of the server."""
    return render(request, "fresh.html")


PAGES = (Page("/decisions/stream", stream), Page("/fresh", fresh))
