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


async def blocks(request: web.Request, problem: str = "") -> web.StreamResponse:
    """List what is blocked; of an alias in the query, show what a block would have rejected."""
    console, key = console_of(request), key_of(request.query)
    rows, last_day, problems = list[tuple[str, Entry]](), None, [problem] if problem else []
    record_view(request, blocks=key or "all")
    try:
        async with _opened(request) as store:
            rows = await store.items(limit=MAX_BLOCKS)
        if key:
            kind, _, alias = key.partition("/")
            query = Query.of({kind: alias, "since": "24h", "event": "decision"})
            last_day = (await console.index.ask(lambda reader: reader.counts(query)))[1]["result"]
    except (SharedUnavailableError, IndexUnavailable) as error:
        problems.append(str(error))
    status, _ = await console.server.status()
    return render(
        request,
        "blocks.html",
        is_active=status is not None and any(one.name == PLUGIN for one in status.plugins),
        rows=[(*name.split("/", 1), entry) for name, entry in rows],
        kinds=KINDS,
        wanted=key.split("/", 1) if key else None,
        last_day=last_day,
        problems=problems,
    )


async def change(request: web.Request) -> web.StreamResponse:
    """Block an alias for an hour, or lift its block."""
    form, now, lifts = form_of(request), time.time(), request.path.endswith("/lift")
    if not (key := key_of(form)):
        raise web.HTTPBadRequest
    why = " ".join(form.get("why", "").split())[:MAX_WHY]
    record(request, "unblock" if lifts else "block", what=key, why=why)
    entry = {"since": now, "until": now + HOUR_S, "by": request[SESSION].user, "why": why}
    try:
        async with _opened(request) as store:
            if not lifts and len(await store.items(limit=MAX_BLOCKS)) >= MAX_BLOCKS:
                return await blocks(request, f"{MAX_BLOCKS} are blocked: lift one first")
            await store.put_all({key: None if lifts else entry})
    except SharedUnavailableError as error:
        return await blocks(request, f"nothing was changed: {error}")
    raise web.HTTPSeeOther("/blocks")


PAGES = (
    Page("/blocks", blocks, "Blocked", Role.ADMIN, plugin=PLUGIN),
    Page("/blocks", change, "", Role.ADMIN, hdrs.METH_POST),
    Page("/blocks/lift", change, "", Role.ADMIN, hdrs.METH_POST),
)
