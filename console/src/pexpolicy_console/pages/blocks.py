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
from pexpolicy_console.context import Page, Response, Visit
from pexpolicy_console.index.query import Query
from pexpolicy_console.index.reader import IndexReader
from pexpolicy_console.login.sessions import Role

PLUGIN = "blocks"
KINDS = {"caller": "caller", "called": "alias"}
"""What is compared, with its name for people."""
HOUR_S = 3600.0
MAX_BLOCKS, MAX_WHY = 500, 80
Entry = dict[str, Any]


@asynccontextmanager
async def _opened(visit: Visit) -> AsyncIterator[Store[Entry]]:
    """Yield the entries; raises ``SharedUnavailableError``."""
    store = Store(PLUGIN, dict[str, Any], ttl=HOUR_S)
    state = shared_state(visit.console.config.settings, is_dry=False)
    store.bind(PLUGIN, state)
    try:
        yield store
    finally:
        await state.close()


def key_of(form: Mapping[str, str]) -> str:
    """Return the key of what a form names, as ``caller/alice@example.com``; empty for nothing."""
    kind, alias = form.get("kind", ""), Alias(form.get("alias", "").strip()[:250])
    return f"{kind}/{alias}" if kind in KINDS and alias.user else ""


async def blocks(visit: Visit) -> Response:
    """List what is blocked; of an alias in the query, show what a block would have rejected."""
    key, rows, last_day = key_of(visit.request.query), list[tuple[str, Entry]](), None
    visit.record_view(blocks=key or "all")
    kind, _, alias = key.partition("/")
    try:
        async with _opened(visit) as store:
            rows = await store.items(limit=MAX_BLOCKS)
    except SharedUnavailableError as error:
        visit.problems.append(str(error))
    else:
        if key:
            query = Query({kind: alias}, since="24h", event="decision", requests="1")
            counted = await visit.search(IndexReader.counts, query)
            last_day = counted and counted[1]["result"]
    status = await visit.status()
    return visit.render(
        "blocks.html",
        is_active=status is not None and any(one.name == PLUGIN for one in status.plugins),
        rows=[(*name.split("/", 1), entry) for name, entry in rows],
        kinds=KINDS,
        wanted=(kind, alias) if key else None,
        last_day=last_day,
    )


async def change(visit: Visit) -> Response:
    """Block an alias for an hour, or lift its block."""
    form, now, lifts = visit.form, time.time(), visit.request.path.endswith("/lift")
    if not (key := key_of(form)):
        raise web.HTTPBadRequest
    why = " ".join(form.get("why", "").split())[:MAX_WHY]
    visit.record("unblock" if lifts else "block", what=key, why=why)
    entry = {"since": now, "until": now + HOUR_S, "by": visit.session.user, "why": why}
    try:
        async with _opened(visit) as store:
            if lifts or len(await store.items(limit=MAX_BLOCKS)) < MAX_BLOCKS:
                await store.put_all({key: None if lifts else entry})
                raise web.HTTPSeeOther("/blocks")
            visit.problems.append(f"{MAX_BLOCKS} are blocked: lift one first")
    except SharedUnavailableError as error:
        visit.problems.append(f"nothing was changed: {error}")
    return await blocks(visit)


PAGES = (
    Page("/blocks", blocks, "Blocked", Role.ADMIN, plugin=PLUGIN),
    Page("/blocks", change, "", Role.ADMIN, hdrs.METH_POST),
    Page("/blocks/lift", change, "", Role.ADMIN, hdrs.METH_POST),
)
