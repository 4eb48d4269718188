"""The stream of new decisions, as server-sent events."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from urllib.parse import parse_qsl

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
"""Between two events of a view that leaves lines out. Each costs the browser a frame, and people
cannot read rows that change faster.
"""
MAX_ROWS = 25
"""Rows of one view in an event; further ones are counted."""
MAX_VIEWS = 8
MAX_STREAMS = 64
MAX_STREAMS_OF_SESSION = 6
MAX_STREAMS_OF_USER = 24
"""So that one user leaves streams to the others."""
COMMENT_INTERVAL_S = 15.0
"""A comment keeps proxies from closing a silent stream."""
CATCH_UP_S = 0.5
"""Time after which the index has the lines that were written before the stream began."""


@dataclass(slots=True)
class View:
    """A list that a browser shows: its filters, and what waits to be sent."""

    text: str
    query: Query
    filter: LineFilter
    after: int | None = None
    rows: list[Hit] = field(default_factory=list)
    left_out: int = 0
    due: float = 0.0
    """When the next event may be sent, by the clock of the event loop."""

    def add(self, hit: Hit) -> None:
        """Add a row, and leave out the oldest one where there are too many."""
        self.rows.append(hit)
        if len(self.rows) > MAX_ROWS:
            del self.rows[0]
            self.left_out += 1

    def is_due(self, now: float) -> bool:
        """Return whether there is something to send."""
        return now >= self.due and bool(self.rows or self.left_out)

    def take(self, now: float) -> tuple[list[Hit], int]:
        """Return what is sent now: the rows, the newest first, and how many lines are left out."""
        found = self.rows[::-1], self.left_out
        self.due = now + BUSY_INTERVAL_S if self.left_out else 0.0
        self.rows, self.left_out = [], 0
        return found


async def stream(request: web.Request) -> web.StreamResponse:
    """Send the new lines of up to eight views until the browser, or its session, is gone."""
    console, session = console_of(request), session_of(request)
    feed = console.feed
    views = _views(request)
    if (
        feed.streams >= MAX_STREAMS
        or feed.streams_of(session.user) >= MAX_STREAMS_OF_USER
        or session.streams >= MAX_STREAMS_OF_SESSION
    ):
        return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text="too many streams\n")
    record_view(request, filters=[view.query.params() for view in views])
    headers = {hdrs.CONTENT_TYPE: "text/event-stream", "X-Accel-Buffering": "no"}
    response = web.StreamResponse(headers=headers)
    session.streams += 1
    try:
        with feed.stream(session.user):
            await response.prepare(request)
            await _Sender(request, response, feed, views).run()
    except ConnectionError:
        pass
    finally:
        session.streams -= 1
    return response


def _views(request: web.Request) -> list[View]:
    console = console_of(request)
    found = []
    for text in request.query.getall("view", [""])[:MAX_VIEWS]:
        params = dict(parse_qsl(text))
        query = Query.of(params)
        if not query.problems():
            after = params.get("after", "")
            number = int(after) if after.isdecimal() and len(after) < 16 else None  # noqa: PLR2004
            found.append(View(text, query, LineFilter(query, console.config.personal), number))
    return found


class _Sender:
    def __init__(
        self,
        request: web.Request,
        response: web.StreamResponse,
        feed: LiveFeed,
        views: Sequence[View],
    ) -> None:
        self._request = request
        self._response = response
        self._feed = feed
        self._views = views
        self._position = feed.position
        self._is_gap = False
        last = request.headers.get("Last-Event-ID") or request.query.get("last", "")
        epoch, _, position = last.partition("-")
        if epoch == feed.epoch and position.isdecimal():
            self._position = min(int(position[:15]), feed.position)
        elif last:
            self._is_gap = True

    async def run(self) -> None:
        # Browsers that lost the same server come back at different times.
        await self._write(f"retry: {random.randint(1000, 4000)}\n\n")  # noqa: S311 - no secret
        if self._is_gap:
            await self._write("event: gap\ndata: {}\n\n")
        loop = asyncio.get_running_loop()
        began, commented = loop.time(), loop.time()
        caught_up = False
        while self._is_open():
            await asyncio.sleep(TICK_S)
            if not caught_up and loop.time() - began >= CATCH_UP_S:
                caught_up = True
                await self._catch_up()
            missed, lines, self._position = self._feed.since(self._position)
            self._sort(missed, lines)
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

    def _sort(self, missed: int, lines: Sequence[bytes]) -> None:
        """Give each line to the views that show it."""
        for view in self._views:
            view.left_out += missed
        needs_words = any(view.filter.needs_words for view in self._views)
        for content in lines:
            line = parse(content)
            if line is None:
                continue
            words = set(words_of(line)) if needs_words else set[str]()
            hit: Hit | None = None
            for view in self._views:
                if view.filter.matches(line, words):
                    hit = hit or Hit(0, None, int(line.timestamp.timestamp() * 1000), content)
                    view.add(hit)

    async def _catch_up(self) -> None:
        """Add the lines that were written between the page and its stream."""
        for view in self._views:
            if view.after is None:
                continue
            try:
                hits = await console_of(self._request).index.ask(
                    partial(IndexReader.search, query=view.query, limit=MAX_ROWS)
                )
            except IndexUnavailable:
                return
            view.rows[:0] = [hit for hit in reversed(hits) if hit.id > view.after]
            view.after = None

    async def _send(self, now: float) -> bool:
        is_sent = False
        for view in self._views:
            if not view.is_due(now):
                continue
            hits, left_out = view.take(now)
            rows = [row_of(_decoded(hit)) for hit in hits]
            html = aiohttp_jinja2.render_string("decision_rows.html", self._request, {"rows": rows})
            message = {"view": view.text, "rows": html, "count": len(rows), "left_out": left_out}
            data = json.dumps(message)
            await self._write(
                f"id: {self._feed.epoch}-{self._position}\nevent: rows\ndata: {data}\n\n"
            )
            is_sent = True
        return is_sent

    async def _write(self, text: str) -> None:
        await self._response.write(text.encode())


def _decoded(hit: Hit) -> Hit:
    """Return a line with its JSON: of most lines that arrive fast, only the bytes are needed."""
    if hit.event is not None or not hit.content:
        return hit
    return replace(hit, event=decode(hit.content))


PAGES = (Page("/decisions/stream", stream),)
