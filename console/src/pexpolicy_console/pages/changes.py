"""The page Changes: what is in force and on the disk, what changed when, and the ways back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import hdrs, web

from pexpolicy.cli.for_console import Activation, ReloadResult, ask_for_reload, history
from pexpolicy_console.children import DryRunFailed
from pexpolicy_console.context import SESSION, Console, console_of
from pexpolicy_console.forms import form_of
from pexpolicy_console.index.index import IndexUnavailable
from pexpolicy_console.index.numbers import Tally, tallies
from pexpolicy_console.index.query import Query
from pexpolicy_console.index.reader import Hit, IndexReader
from pexpolicy_console.pages.page import Page, dry_run, record, render
from pexpolicy_console.roles import Role

DAY_S = 86_400.0
EVENTS = {"reload": 100, "start": 50, "end": 50}
"""How many lines of each kind are looked for."""
KEPT_WITHIN_S = 60.0
"""Between the line of a reload and the copy of its files, at most."""
FIRST_CALL_WITHIN_S = 3600.0
"""Between the copy of the files of a start and its first line, at most."""
REPLAY_COUNTS_S = 3600.0
"""A replay that is older does not count as one before an action."""


@dataclass(frozen=True, slots=True)
class Change:
    """A reload, a refused one, a start or an end; ``at`` in seconds since 1970."""

    at: float
    kind: str
    policy: str
    """The policy hash that is active after it."""
    by: str = ""
    texts: Sequence[str] = ()
    error: str = ""
    back_to: str = ""
    instance: str = ""
    kept: Activation | None = None
    """Its files."""
    former: Activation | None = None
    """Those of the configuration before."""

    @property
    def is_one(self) -> bool:
        """False for a reload of files that had not changed."""
        return self.kind != "reload" or bool(self.texts or self.former or self.back_to)

    @property
    def key(self) -> str:
        """Its name in URLs."""
        return f"{self.at * 1000:.0f}"


def changes_of(hits: Sequence[Hit], kept: Sequence[Activation], instance: str) -> list[Change]:
    """Return what lines of the audit and copies of files tell, the latest first.

    ``kept`` is of the server ``instance``, the latest first.
    """
    former = dict(zip((one.time for one in kept), kept[1:], strict=False))
    rest, found = list(kept), list[Change]()
    for hit in hits:
        event, at = hit.event or {}, hit.at / 1000
        policy, server = str(event.get("policy_hash", "")), str(event.get("instance", ""))
        kind = str(event.get("event"))
        kind = kind if kind in EVENTS else "start"
        mine = None
        if server in ("", instance) and not event.get("error"):
            first, last = (0, KEPT_WITHIN_S) if kind == "reload" else (-FIRST_CALL_WITHIN_S, 0)
            near = (one for one in rest if first <= one.time - at <= last)
            mine = next((one for one in near if one.policy_hash == policy), None)
        if mine is not None:
            rest.remove(mine)
        changes = event.get("changes")
        found.append(
            Change(
                at if mine is None or kind == "reload" else mine.time,
                "refused" if event.get("error") else kind,
                policy,
                str((mine and mine.author) or event.get("author") or ""),
                [str(one) for one in changes] if isinstance(changes, list) else [],
                str(event.get("error") or ""),
                str(event.get("back_to") or ""),
                server,
                mine,
                former.get(mine.time) if mine is not None else None,
            )
        )
    found += [
        Change(one.time, "start", one.policy_hash, one.author, one.changes, kept=one)
        for one in rest
    ]
    return sorted(found, key=lambda one: -one.at)


def _lines(reader: IndexReader) -> list[Hit]:
    kinds = (reader.search(Query(event=name), None, most) for name, most in EVENTS.items())
    return sorted(chain(*kinds), key=lambda hit: -hit.at)


def _around(at: float, now: float, reader: IndexReader) -> dict[str, Any]:
    """Return how many calls there were before and after a moment, for the same time."""
    seconds = min(DAY_S, now - at)
    bounds = [int(1000 * (at + n * seconds)) for n in (-1, 0, 1)]
    before, after = (one.get("", Tally()) for one in tallies(reader, "all", bounds))
    return {"seconds": seconds, "before": before, "after": after, "bounds": bounds}


class _Kept:
    """What the server has kept, and where."""

    def __init__(self, console: Console, state_dir: str) -> None:
        self.folder = Path(state_dir) if state_dir else console.config.settings.state_dir
        self.all: list[Activation] = []

    async def read(self, config: Path) -> None:
        """Read it; nothing is known where this user may not."""
        self.all = await asyncio.to_thread(history, self.folder, config)

    def of(self, policy_hash: str) -> Activation | None:
        """Return the latest of a policy hash."""
        return next((one for one in self.all if one.policy_hash == policy_hash), None)


async def _kept(console: Console) -> _Kept:
    status, _ = await console.server.status()
    kept = _Kept(console, "" if status is None else status.config.state_dir)
    await kept.read(console.config.path)
    return kept


async def _difference(
    console: Console, kept: _Kept, before: Activation | None, after: Activation | None
) -> dict[str, Any] | None:
    """Return what differs, with values; ``None`` where one of both was not kept."""
    if before is None or after is None:
        return None
    sides = {"before": msgspec.to_builtins(before), "after": msgspec.to_builtins(after)}
    try:
        found: dict[str, Any] = await console.dry_runs.ask(
            "difference", folder=str(kept.folder), **sides
        )
    except DryRunFailed as error:
        return {"rows": [], "left_out": 0, "problems": error.failures}
    return found


async def changes(request: web.Request) -> web.StreamResponse:
    """Show what changed, and the configuration in force and on the disk."""
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
    return await _page(request, results=results, problem=problem)


async def replay(request: web.Request) -> web.StreamResponse:
    """Start a replay of the last day on the file on the disk, on another one, or on kept files."""
    console, form = console_of(request), form_of(request)
    name, kept, since = form.get("file", ""), form.get("kept", ""), time.time() - DAY_S
    if kept:
        all_kept = await _kept(console)
        if all_kept.of(kept) is None:
            raise web.HTTPNotFound
        record(request, "replay", policy_hash=kept)
        console.replay.start(since=since, kept=kept, folder=str(all_kept.folder))
        if "back" in form:
            raise web.HTTPSeeOther(f"/changes/back?to={kept}")
        raise web.HTTPSeeOther("/changes#replay")
    if name and name not in await asyncio.to_thread(console.config.others):
        raise web.HTTPNotFound
    file = name or console.config.path.name
    record(request, "replay", path=str(console.config.path.with_name(file)))
    console.replay.start(since=since, file=file)
    raise web.HTTPSeeOther("/changes#replay")


async def cancel_replay(request: web.Request) -> web.StreamResponse:
    """End the replay that runs."""
    record(request, "replay_cancelled", of=console_of(request).replay.name_of_config)
    await console_of(request).replay.cancel()
    raise web.HTTPSeeOther("/changes#replay")


async def replay_progress(request: web.Request) -> web.StreamResponse:
    """Show the part of the page that tells of the replay."""
    config, running = console_of(request).config, console_of(request).replay
    others = await asyncio.to_thread(config.others)
    return render(request, "replay.html", replay=running, config=config.path, others=others)


def _is_replayed(console: Console, policy_hash: str) -> bool:
    """Return whether a replay on kept files has just ended, with or without a result."""
    job = console.replay
    is_recent = job.started is not None and time.time() - job.started < REPLAY_COUNTS_S
    return job.name_of_config == policy_hash and is_recent and not job.is_running


async def back(request: web.Request) -> web.StreamResponse:
    """Show what going back would change, and ask whether to do it."""
    console, to = console_of(request), request.query.get("to", "")
    kept = await _kept(console)
    status, problem = await console.server.status()
    target = kept.of(to)
    if target is None or console.config.settings.bundle is not None:
        raise web.HTTPNotFound
    active = "" if status is None else status.config.policy_hash
    return render(
        request,
        "back.html",
        target=target,
        active=active,
        problem=problem,
        replay=console.replay,
        is_replayed=_is_replayed(console, to),
        difference=await _difference(console, kept, kept.of(active), target),
    )


async def go_back(request: web.Request) -> web.StreamResponse:
    """Let the server decide by kept files, once after each replay on them."""
    console, form = console_of(request), form_of(request)
    to, why = form.get("to", ""), " ".join(form.get("why", "").split())
    if not _is_replayed(console, to) or console.config.settings.bundle is not None:
        raise web.HTTPConflict
    console.replay.forget()
    record(request, "go_back", policy_hash=to, why=why)
    author = f"{request[SESSION].user}: {why}" if why else request[SESSION].user
    results, problem = await console.server.activate(to, author)
    console.server.forget()
    return await _page(request, results=results, problem=problem)


async def _page(
    request: web.Request,
    *,
    asks: bool = False,
    results: Sequence[ReloadResult | None] | None = None,
    problem: str = "",
) -> web.StreamResponse:
    console = console_of(request)
    status, server_problem = await console.server.status()
    active = None if status is None else status.config
    active_hash = "" if active is None else active.policy_hash
    disk, failures = await dry_run(request, "check", active_hash=active_hash)
    kept, hits, around, index_problem = await _kept(console), list[Hit](), None, ""
    settings = console.config.settings
    try:
        hits = await console.index.ask(_lines)
    except IndexUnavailable as error:
        index_problem = str(error)
    found = changes_of(hits, kept.all, settings.instance)
    chosen = _chosen(found, request.query.get("at", ""), request.query.get("policy", ""))
    if chosen is not None and not index_problem:
        around = await console.index.ask(partial(_around, chosen.at, time.time()))
    former = None if chosen is None else chosen.former
    back_to = former if chosen is not None and chosen.policy == active_hash else None
    if chosen is not None and chosen.kept is not None and chosen.policy != active_hash:
        back_to = chosen.kept
    return render(
        request,
        "changes.html",
        active=active,
        disk=disk,
        is_same=bool(active_hash) and disk is not None and disk["policy_hash"] == active_hash,
        failures=failures,
        server_problem=server_problem,
        index_problem=index_problem,
        asks=asks,
        results=results,
        problem=problem,
        config=console.config.path,
        others=await asyncio.to_thread(console.config.others),
        replay=console.replay,
        changes=found,
        chosen=chosen,
        difference=chosen and await _difference(console, kept, former, chosen.kept),
        around=around,
        back_to=None if settings.bundle is not None else back_to,
    )


def _chosen(found: Sequence[Change], at: str, policy: str) -> Change | None:
    """Return the change of a URL: by its time, or the latest one until then with a policy hash."""
    until = int(at) if at.isascii() and at.isdigit() and len(at) < 16 else None  # noqa: PLR2004
    for one in found:
        is_asked = int(one.key) <= until if until is not None else one.is_one
        if is_asked and policy in ("", one.policy):
            return one
    return None


async def moved(_: web.Request) -> web.StreamResponse:
    """Lead bookmarks of the former page here."""
    raise web.HTTPSeeOther("/changes")


PAGES = (
    Page("/changes", changes, "Changes"),
    Page("/configuration", moved),
    Page("/changes/replay", replay_progress, "", Role.OPERATOR),
    Page("/changes/replay", replay, "", Role.OPERATOR, hdrs.METH_POST),
    Page("/changes/replay/cancel", cancel_replay, "", Role.OPERATOR, hdrs.METH_POST),
    Page("/changes/reload", confirm, "", Role.ADMIN),
    Page("/changes/reload", reload, "", Role.ADMIN, hdrs.METH_POST),
    Page("/changes/back", back, "", Role.ADMIN),
    Page("/changes/back", go_back, "", Role.ADMIN, hdrs.METH_POST),
)
