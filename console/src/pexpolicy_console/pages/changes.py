"""The page Changes: what is in force and on the disk, what changed when, and the ways back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import hdrs, web

from pexpolicy.cli.for_console import Activation, ReloadResult, ask_for_reload, history
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
KEPT_WITHIN_S = {"reload": (0.0, 60.0), "start": (-3600.0, 0.0), "end": (1.0, 0.0)}
"""From a line to the copy of the files, at least and at most; the first line comes after it."""
REPLAY_COUNTS_S = 3600.0
"""A replay that is older does not count as one before an action."""
Results = list[ReloadResult | None]


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
        event, at, mine = hit.event or {}, hit.at / 1000, None
        policy, server = str(event.get("policy_hash", "")), str(event.get("instance", ""))
        error, changes = str(event.get("error") or ""), event.get("changes")
        kind = event["event"] if event.get("event") in EVENTS else "start"
        if server in ("", instance) and not error:
            first, last = KEPT_WITHIN_S[kind]
            near = [k for k in rest if k.policy_hash == policy and first <= k.time - at <= last]
            mine = near[0] if near else None
        if mine is not None:
            rest.remove(mine)
            at = min(at, mine.time)
        by = str((mine and mine.author) or event.get("author") or "")
        texts = [str(one) for one in changes] if isinstance(changes, list) else []
        files = mine, former.get(mine.time) if mine is not None else None
        facts = policy, by, texts, error, str(event.get("back_to") or ""), server, *files
        found.append(Change(at, "refused" if error else kind, *facts))
    found += [Change(k.time, "start", k.policy_hash, k.author, k.changes, kept=k) for k in rest]
    return sorted(found, key=lambda one: -one.at)


def _lines(reader: IndexReader) -> list[Hit]:
    kinds = (reader.search(Query(event=name), None, most) for name, most in EVENTS.items())
    # The first line of a start may be one of a reload.
    return sorted({hit.id: hit for hit in chain(*kinds)}.values(), key=lambda hit: -hit.at)


def _around(at: float, now: float, reader: IndexReader) -> dict[str, Any]:
    """Return how many calls there were before and after a moment, for the same time."""
    seconds = min(DAY_S, now - at)
    bounds = [int(1000 * (at + n * seconds)) for n in (-1, 0, 1)]
    before, after = (one.get("", Tally()) for one in tallies(reader, "all", bounds))
    return {"seconds": seconds, "before": before, "after": after}


async def _kept(console: Console) -> tuple[Path, list[Activation]]:
    """Return the state folder, and what is kept there, as far as this user may read it."""
    status, _ = await console.server.status()
    known = "" if status is None else status.config.state_dir
    folder = Path(known) if known else console.config.settings.state_dir
    return folder, await asyncio.to_thread(history, folder, console.config.path)


def _of(kept: Sequence[Activation], name: str) -> Activation | None:
    return next((one for one in kept if one.policy_hash == name), None)


async def _difference(
    request: web.Request, folder: Path, before: Activation | None, after: Activation | None
) -> dict[str, Any] | None:
    """Return what differs, with values; ``None`` where one of both was not kept."""
    if before is None or after is None:
        return None
    sides = {"before": msgspec.to_builtins(before), "after": msgspec.to_builtins(after)}
    found, problems = await dry_run(request, "difference", folder=str(folder), **sides)
    return found or {"rows": [], "left_out": 0, "problems": problems}


async def changes(request: web.Request) -> web.StreamResponse:
    """Show what changed, and the configuration in force and on the disk."""
    return await _page(request)


async def reload(request: web.Request) -> web.StreamResponse:
    """Reload every server with this configuration, and show the results."""
    console, results, path = console_of(request), Results(), console_of(request).config.path
    problem = "no server with this configuration runs on this machine as this user"
    record(request, "reload", path=str(path))
    try:
        results = await asyncio.to_thread(ask_for_reload, path, request[SESSION].user)
    except (OSError, ValueError) as error:
        problem = f"the server cannot be reached: {error}"
    console.server.forget()
    return await _page(request, results, "" if results else problem)


async def replay(request: web.Request) -> web.StreamResponse:
    """Start a replay of the last day on the file on the disk, on another one, or on kept files."""
    console, form = console_of(request), form_of(request)
    name, kept, since = form.get("file", ""), form.get("kept", ""), time.time() - DAY_S
    if kept:
        folder, known = await _kept(console)
        if _of(known, kept) is None:
            raise web.HTTPNotFound
        record(request, "replay", policy_hash=kept)
        console.replay.start(since=since, kept=kept, folder=str(folder))
    else:
        if name and name not in await asyncio.to_thread(console.config.others):
            raise web.HTTPNotFound
        file = name or console.config.path.name
        record(request, "replay", path=str(console.config.path.with_name(file)))
        console.replay.start(since=since, file=file)
    raise web.HTTPSeeOther(f"/changes/back?to={kept}" if "back" in form else "/changes#replay")


async def cancel_replay(request: web.Request) -> web.StreamResponse:
    """End the replay that runs."""
    record(request, "replay_cancelled", of=console_of(request).replay.name_of_config)
    await console_of(request).replay.cancel()
    raise web.HTTPSeeOther("/changes#replay")


def _is_replayed(console: Console, policy_hash: str) -> bool:
    """Return whether a replay on kept files has just ended, with or without a result."""
    job = console.replay
    is_recent = time.time() - (job.started or 0) < REPLAY_COUNTS_S
    return job.name_of_config == policy_hash and is_recent and not job.is_running


async def back(request: web.Request) -> web.StreamResponse:
    """Show what going back would change, and ask whether to do it."""
    console, to = console_of(request), request.query.get("to", "")
    folder, kept = await _kept(console)
    status, _ = await console.server.status()
    active = "" if status is None else status.config.policy_hash
    if (target := _of(kept, to)) is None or console.config.settings.bundle is not None:
        raise web.HTTPNotFound
    return render(
        request,
        "back.html",
        target=target,
        active=active,
        replay=console.replay,
        is_replayed=_is_replayed(console, to),
        difference=await _difference(request, folder, _of(kept, active), target),
    )


async def go_back(request: web.Request) -> web.StreamResponse:
    """Let the server decide by kept files, once after each replay on them."""
    console, form = console_of(request), form_of(request)
    to, why, user = form.get("to", ""), form.get("why", ""), request[SESSION].user
    if not _is_replayed(console, to) or console.config.settings.bundle is not None:
        raise web.HTTPConflict
    console.replay.started = console.replay.last = None
    record(request, "go_back", policy_hash=to, why=why)
    author = f"{user}: {why}" if why else user
    found, problem = await console.server.ask(f"/activate/{to}", dict[str, Results], author)
    console.server.forget()
    return await _page(request, found["results"] if found is not None else [], problem)


async def _page(
    request: web.Request, results: Sequence[ReloadResult | None] = (), problem: str = ""
) -> web.StreamResponse:
    console = console_of(request)
    status, _ = await console.server.status()
    active = None if status is None else status.config
    active_hash = "" if active is None else active.policy_hash
    disk, failures = await dry_run(request, "check", active_hash=active_hash)
    (folder, kept), settings = await _kept(console), console.config.settings
    hits, around, problems = list[Hit](), None, [problem]
    try:
        hits = await console.index.ask(_lines)
    except IndexUnavailable as error:
        problems.append(str(error))
    instance = settings.instance if status is None else status.instance
    found = changes_of(hits, kept, instance)
    chosen = _chosen(found, request.query.get("at", ""), request.query.get("policy", ""))
    if chosen is not None:
        with suppress(IndexUnavailable):
            around = await console.index.ask(partial(_around, chosen.at, time.time()))
    former, own = (chosen.former, chosen.kept) if chosen is not None else (None, None)
    back_to = former if chosen is not None and chosen.policy == active_hash else own
    return render(
        request,
        "changes.html",
        active=active,
        disk=disk,
        is_same=bool(active_hash) and disk is not None and disk["policy_hash"] == active_hash,
        failures=failures,
        problems=problems,
        asks=request.method in ("GET", "HEAD") and request.path == "/changes/reload",
        results=results,
        config=console.config.path,
        others=await asyncio.to_thread(console.config.others),
        replay=console.replay,
        changes=found,
        chosen=chosen,
        difference=await _difference(request, folder, former, own),
        around=around,
        back_to=None if settings.bundle is not None else back_to,
    )


def _chosen(found: Sequence[Change], at: str, policy: str) -> Change | None:
    """Return the change of a URL: by its time, or the latest one until then with a policy hash;
    without both, the latest that changed something.
    """
    until = int(at) if at.isascii() and at.isdigit() and len(at) < 16 else None  # noqa: PLR2004
    for one in found:
        is_one = one.kind != "reload" or one.texts or one.former or one.back_to
        if policy in ("", one.policy) and (int(one.key) <= until if until is not None else is_one):
            return one
    return None


PAGES = (
    Page("/changes", changes, "Changes"),
    Page("/changes/replay", replay, "", Role.OPERATOR, hdrs.METH_POST),
    Page("/changes/replay/cancel", cancel_replay, "", Role.OPERATOR, hdrs.METH_POST),
    Page("/changes/reload", changes, "", Role.ADMIN),
    Page("/changes/reload", reload, "", Role.ADMIN, hdrs.METH_POST),
    Page("/changes/back", back, "", Role.ADMIN),
    Page("/changes/back", go_back, "", Role.ADMIN, hdrs.METH_POST),
)
