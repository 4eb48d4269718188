"""The page Blocked: callers and aliases that are blocked for an hour, and the ways to and from it.

The entries are shared state of the plugin ``blocks``, which this page reads and writes itself.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import hdrs, web

from pexpolicy import Alias, SharedUnavailableError, Store
from pexpolicy.cli.for_console import shared_state
from pexpolicy_console.context import SESSION, console_of
from pexpolicy_console.forms import form_of
from pexpolicy_console.index.index import IndexUnavailable
from pexpolicy_console.index.query import Query
from pexpolicy_console.index.reader import IndexReader
from pexpolicy_console.pages.page import Page, record, record_view, render
from pexpolicy_console.roles import Role

PLUGIN = "blocks"
KINDS = {"caller": "caller", "called": "alias"}
"""What is compared, with its name for people."""
HOUR_S = 3600.0
MAX_BLOCKS, MAX_WHY = 500, 80
Entry = dict[str, Any]


@asynccontextmanager
async def _opened(request: web.Request) -> AsyncIterator[Store[Entry]]:
    """Yield the entries; raises ``SharedUnavailableError``."""
    store = Store(PLUGIN, dict[str, Any], ttl=HOUR_S)
    state = shared_state(console_of(request).config.settings, is_dry=False)
    store.bind(PLUGIN, state)
    try:
        yield store
    finally:
        await state.close()


def key_of(form: Mapping[str, str]) -> str:
    """Return the key of what a form names, as ``caller/alice@example.com``; empty for nothing."""
    kind, alias = form.get("kind", ""), Alias(form.get("alias", "").strip()[:250])
    return f"{kind}/{alias}" if kind in KINDS and alias.user else ""


async def blocks(request: web.Request) -> web.StreamResponse:
    """List what is blocked; of an alias in the query, show what a block would have rejected."""
    return await _page(request)


def _last_day(key: str, reader: IndexReader) -> dict[str, int]:
    kind, _, alias = key.partition("/")
    query = Query.of({kind: alias, "since": "24h", "event": "decision"})
    _, counters = reader.counts(query)
    return {result: counters["result"][result] for result in ("accepted", "refused", "failed")}


async def _page(request: web.Request, problem: str = "") -> web.StreamResponse:
    console, key = console_of(request), key_of(request.query)
    rows: list[tuple[str, Entry]] = []
    last_day, problems = None, [problem] if problem else []
    record_view(request, blocks=key or "all")
    try:
        async with _opened(request) as store:
            rows = await store.items(limit=MAX_BLOCKS)
        if key:
            last_day = await console.index.ask(lambda reader: _last_day(key, reader))
    except (SharedUnavailableError, IndexUnavailable) as error:
        problems.append(str(error))
    await console.server.status()
    last = console.server.last
    return render(
        request,
        "blocks.html",
        is_active=last is not None and any(one.name == PLUGIN for one in last.plugins),
        rows=[(*name.split("/", 1), entry) for name, entry in rows],
        kinds=KINDS,
        wanted=key.split("/", 1) if key else None,
        last_day=last_day,
        problems=problems,
    )


async def block(request: web.Request) -> web.StreamResponse:
    """Block an alias for an hour."""
    form, now = form_of(request), time.time()
    key, why = key_of(form), " ".join(form.get("why", "").split())[:MAX_WHY]
    if not key:
        raise web.HTTPBadRequest
    record(request, "block", what=key, why=why)
    entry = {"since": now, "until": now + HOUR_S, "by": request[SESSION].user, "why": why}
    return await _changed(request, key, entry)


async def lift(request: web.Request) -> web.StreamResponse:
    """End a block."""
    if not (key := key_of(form_of(request))):
        raise web.HTTPBadRequest
    record(request, "unblock", what=key)
    return await _changed(request, key, None)


async def _changed(request: web.Request, key: str, entry: Entry | None) -> web.StreamResponse:
    try:
        async with _opened(request) as store:
            if entry is not None and len(await store.items(limit=MAX_BLOCKS)) >= MAX_BLOCKS:
                return await _page(request, f"{MAX_BLOCKS} are blocked: lift one first")
            await store.put_all({key: entry})
    except SharedUnavailableError as error:
        return await _page(request, f"nothing was changed: {error}")
    raise web.HTTPSeeOther("/blocks")


PAGES = (
    Page("/blocks", blocks, "Blocked", Role.ADMIN, plugin=PLUGIN),
    Page("/blocks", block, "", Role.ADMIN, hdrs.METH_POST),
    Page("/blocks/lift", lift, "", Role.ADMIN, hdrs.METH_POST),
)
