"""The stream of new decisions, as server-sent events."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus

import aiohttp_jinja2
from aiohttp import hdrs, web

from pexpolicy_console.context import console_of, session_of
from pexpolicy_console.index.index import IndexUnavailable
from pexpolicy_console.index.lines import decode, parse, words_of
from pexpolicy_console.index.query import LineFilter, Query
from pexpolicy_console.index.reader import Hit, IndexReader
from pexpolicy_console.live import LiveFeed
from pexpolicy_console.login.pages import session_cookie
from pexpolicy_console.login.sessions import is_current
from pexpolicy_console.pages.decisions import row_of
from pexpolicy_console.pages.page import Page, record_view

TICK_S = 0.25
"""Between two events of a stream."""
BUSY_INTERVAL_S = 1.0
"""Between two events of a stream that leaves lines out. Each costs the browser a frame, and people
cannot read rows that change faster.
"""
MAX_ROWS = 25
"""Rows in an event; further ones are counted."""
MAX_STREAMS = 64
MAX_STREAMS_OF_SESSION = 4
"""A browser opens six connections to one server, and pages need some of them."""
MAX_STREAMS_OF_USER = 24
"""So that one user leaves streams to the others."""
COMMENT_INTERVAL_S = 15.0
"""A comment keeps proxies from closing a silent stream."""
CATCH_UP_S = 0.5
"""Time after which the index has the lines that were written before the stream began."""


class Pending:
    """What waits to be sent: the newest rows, and how many lines are left out."""

    def __init__(self) -> None:
        self.rows: list[Hit] = []
        self.left_out = 0
        self.due = 0.0
        """When the next event may be sent, by the clock of the event loop."""

    def add(self, hit: Hit) -> None:
        """Add a row, and leave out the oldest one where there are too many."""
        self.rows.append(hit)
        if len(self.rows) > MAX_ROWS:
            del self.rows[0]
            self.left_out += 1

    def take(self, now: float) -> tuple[list[Hit], int]:
        """Return what is sent now: the rows, the newest first, and how many lines are left out;
        nothing before it is due.
        """
        if now < self.due:
            return [], 0
        found = self.rows[::-1], self.left_out
        self.due = now + BUSY_INTERVAL_S if self.left_out else 0.0
        self.rows, self.left_out = [], 0
        return found


async def stream(request: web.Request) -> web.StreamResponse:
    """Send the new lines of a list until the browser, or its session, is gone."""
    feed, session = console_of(request).feed, session_of(request)
    query = Query.of(request.query)
    if problems := query.problems():
        return web.Response(status=HTTPStatus.BAD_REQUEST, text=f"{problems[0]}\n")
    if (
        feed.streams >= MAX_STREAMS
        or feed.streams_of(session.user) >= MAX_STREAMS_OF_USER
        or session.streams >= MAX_STREAMS_OF_SESSION
    ):
        return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text="too many streams\n")
    record_view(request, filters=query.params())
    headers = {hdrs.CONTENT_TYPE: "text/event-stream", "X-Accel-Buffering": "no"}
    response = web.StreamResponse(headers=headers)
    session.streams += 1
    try:
        with feed.stream(session.user):
            await response.prepare(request)
            await _Sender(request, response, feed, query).run()
    except ConnectionError:
        pass
    finally:
        session.streams -= 1
    return response


class _Sender:
    def __init__(
        self, request: web.Request, response: web.StreamResponse, feed: LiveFeed, query: Query
    ) -> None:
        self._request = request
        self._response = response
        self._feed = feed
        self._query = query
        self._filter = LineFilter(query, console_of(request).config.personal)
        self._pending = Pending()
        self._position = feed.position

    async def run(self) -> None:
        # Browsers that lost the same server come back at different times.
        await self._write(f"retry: {random.randint(1000, 4000)}\n\n")  # noqa: S311 - no secret
        loop = asyncio.get_running_loop()
        began = commented = loop.time()
        after = self._request.query.get("after", "")
        while self._is_open():
            await asyncio.sleep(TICK_S)
            if after and loop.time() - began >= CATCH_UP_S:
                await self._catch_up(after)
                after = ""
            missed, lines, self._position = self._feed.since(self._position)
            self._pending.left_out += missed
            self._select(lines)
            if await self._send(loop.time()):
                commented = loop.time()
            elif loop.time() - commented >= COMMENT_INTERVAL_S:
                commented = loop.time()
                await self._write(":\n\n")

    def _is_open(self) -> bool:
        """Return whether the browser is there, the session open, and its user not removed."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            return False
        console, session = console_of(self._request), session_of(self._request)
        return console.sessions.is_open(session, session_cookie(self._request)) and is_current(
            session, console.config.settings.console
        )

    def _select(self, lines: Sequence[bytes]) -> None:
        for content in lines:
            line = parse(content)
            if line is None:
                continue
            words = set(words_of(line)) if self._filter.needs_words else set[str]()
            if self._filter.matches(line, words):
                self._pending.add(Hit(0, None, int(line.timestamp.timestamp() * 1000), content))

    async def _catch_up(self, after: str) -> None:
        """Add the lines that were written between the page and its stream, also one that a browser
        opened again.
        """
        number = int(after) if after.isdecimal() and len(after) < 16 else 0  # noqa: PLR2004
        search = partial(IndexReader.search, query=self._query, limit=MAX_ROWS)
        try:
            hits = await console_of(self._request).index.ask(search)
        except IndexUnavailable:
            return
        self._pending.rows[:0] = [hit for hit in reversed(hits) if hit.id > number]

    async def _send(self, now: float) -> bool:
        hits, left_out = self._pending.take(now)
        if not hits and not left_out:
            return False
        rows = [row_of(_decoded(hit)) for hit in hits]
        html = aiohttp_jinja2.render_string("decision_rows.html", self._request, {"rows": rows})
        data = json.dumps({"rows": html, "count": len(rows), "left_out": left_out})
        await self._write(f"event: rows\ndata: {data}\n\n")
        return True

    async def _write(self, text: str) -> None:
        await self._response.write(text.encode())


def _decoded(hit: Hit) -> Hit:
    """Return a line with its JSON: of most lines that arrive fast, only the bytes are needed."""
    if hit.event is not None or not hit.content:
        return hit
    return replace(hit, event=decode(hit.content))


PAGES = (Page("/decisions/stream", stream),)
