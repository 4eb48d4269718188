"""The page Configuration: in force, on the disk, what differs, and the reload."""

from __future__ import annotations

import asyncio
import time

from aiohttp import hdrs, web

from pexpolicy.cli.for_console import ReloadResult, ask_for_reload
from pexpolicy_console.context import SESSION, console_of
from pexpolicy_console.forms import form_of
from pexpolicy_console.pages.page import Page, dry_run, record, render
from pexpolicy_console.roles import Role

REPLAYED_S = 86_400.0


async def configuration(request: web.Request) -> web.StreamResponse:
    """Show the configuration in force and the one on the disk."""
    return await _page(request)


async def confirm(request: web.Request) -> web.StreamResponse:
    """Ask whether to reload, and show what that changes."""
    return await _page(request, asks=True)


async def reload(request: web.Request) -> web.StreamResponse:
    """Reload every server with this configuration, and show the results."""
    record(request, "reload", path=str(console_of(request).config.path))
    results: list[ReloadResult | None] = []
    problem = ""
    try:
        path, user = console_of(request).config.path, request[SESSION].user
        results = await asyncio.to_thread(ask_for_reload, path, user)
        if not results:
            problem = "no server with this configuration runs on this machine as this user"
    except (OSError, ValueError) as error:
        problem = f"the server cannot be reached: {error}"
    console_of(request).server.forget()
    return await _page(request, results=results, reload_problem=problem)


async def replay(request: web.Request) -> web.StreamResponse:
    """Start a replay of the last day on the file on the disk, or on another one."""
    console, name = console_of(request), form_of(request).get("file", "")
    if name and name not in await asyncio.to_thread(console.config.others):
        raise web.HTTPNotFound
    file = name or console.config.path.name
    record(request, "replay", path=str(console.config.path.with_name(file)))
    console.replay.start(since=time.time() - REPLAYED_S, file=file)
    raise web.HTTPSeeOther("/configuration#replay")


async def cancel_replay(request: web.Request) -> web.StreamResponse:
    """End the replay that runs."""
    record(request, "replay_cancelled", path=str(console_of(request).replay.file))
    await console_of(request).replay.cancel()
    raise web.HTTPSeeOther("/configuration#replay")


async def replay_progress(request: web.Request) -> web.StreamResponse:
    """Show the part of the page that tells of the replay."""
    config, running = console_of(request).config, console_of(request).replay
    others = await asyncio.to_thread(config.others)
    return render(request, "replay.html", replay=running, config=config.path, others=others)


async def _page(
    request: web.Request,
    *,
    asks: bool = False,
    results: list[ReloadResult | None] | None = None,
    reload_problem: str = "",
) -> web.StreamResponse:
    console = console_of(request)
    status, server_problem = await console.server.status()
    active = None if status is None else status.config
    active_hash = "" if active is None else active.policy_hash
    disk, failures = await dry_run(request, "check", active_hash=active_hash)
    return render(
        request,
        "configuration.html",
        active=active,
        disk=disk,
        is_same=bool(active_hash) and disk is not None and disk["policy_hash"] == active_hash,
        failures=failures,
        server_problem=server_problem,
        asks=asks,
        results=results,
        reload_problem=reload_problem,
        config=console.config.path,
        others=await asyncio.to_thread(console.config.others),
        replay=console.replay,
    )


PAGES = (
    Page("/configuration", configuration, "Configuration"),
    Page("/configuration/replay", replay_progress, "", Role.OPERATOR),
    Page("/configuration/replay", replay, "", Role.OPERATOR, hdrs.METH_POST),
    Page("/configuration/replay/cancel", cancel_replay, "", Role.OPERATOR, hdrs.METH_POST),
    Page("/configuration/reload", confirm, "", Role.ADMIN),
    Page("/configuration/reload", reload, "", Role.ADMIN, hdrs.METH_POST),
)
