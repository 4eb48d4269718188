"""The page Changes: what is in force and on the disk, what changed when, and the ways back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import hdrs, web

from pexpolicy.cli.for_console import Activation, ReloadResult, ask_for_reload, history
from pexpolicy_console.context import Page, Response, Visit, whole_number
from pexpolicy_console.differences import difference
from pexpolicy_console.index.query import Query
from pexpolicy_console.index.reader import Hit, IndexReader
from pexpolicy_console.login.sessions import Role

DAY_S = 86_400.0
EVENTS = {"reload": 100, "start": 50, "end": 50}
"""How many lines of each kind are looked for."""
KEPT_WITHIN_S = {"reload": (0.0, 60.0), "start": (-3600.0, 0.0), "end": (1.0, 0.0)}
"""From a line to the copy of the files, at least and at most; the first line comes after it."""
REPLAY_COUNTS_S = 3600.0
"""A replay that is older does not count as one before an action."""
Results = Sequence[ReloadResult | None]


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


def changes_of(
    hits: Sequence[Hit], kept: Sequence[Activation] = (), instance: str = ""
) -> list[Change]:
    """Return what the audit and copies of files of ``instance`` tell, all the latest first."""
    former = dict(zip((one.time for one in kept), kept[1:], strict=False))
    rest, found = list(kept), list[Change]()
    for hit in hits:
        event, at = hit.event or {}, hit.at / 1000
        names = ("policy_hash", "instance", "error", "back_to", "author")
        policy, server, error, back_to, author = (str(event.get(name) or "") for name in names)
        kind = event["event"] if event.get("event") in EVENTS else "start"
        first, last = KEPT_WITHIN_S[kind]
        near = (k for k in rest if k.policy_hash == policy and first <= k.time - at <= last)
        mine = next(near, None) if server in ("", instance) and not error else None
        if mine is not None:
            rest.remove(mine)
            at, author = min(at, mine.time), mine.author or author
        changes = event.get("changes")
        texts = [str(one) for one in changes] if isinstance(changes, list) else []
        facts = "refused" if error else kind, policy, author, texts, error, back_to, server
        found.append(Change(at, *facts, mine, mine and former.get(mine.time)))
    found += [Change(k.time, "start", k.policy_hash, k.author, k.changes, kept=k) for k in rest]
    return sorted(found, key=lambda one: -one.at)


def lines(reader: IndexReader) -> list[Hit]:
    """Return the last lines of changes, the latest first."""
    kinds = (reader.search(Query(event=name), None, most) for name, most in EVENTS.items())
    # The first line of a start may be one of a reload.
    return sorted(
        {hit.id: hit for hit in chain(*kinds)}.values(), key=lambda hit: (-hit.at, -hit.id)
    )


def _around(reader: IndexReader, at: float, now: float) -> dict[str, Any]:
    """Return how many calls there were before and after a moment, for the same time."""
    seconds = min(DAY_S, now - at)
    bounds = [int(1000 * (at + n * seconds)) for n in (-1, 0, 1)]
    before, after = reader.all_tallies(bounds)
    return {"seconds": seconds, "before": before, "after": after}


async def _kept(visit: Visit) -> tuple[str, Path, list[Activation]]:
    """Return the policy hash in force, the state folder, and what can be read of it."""
    config, status = visit.console.config, await visit.status()
    active = "" if status is None else status.config.policy_hash
    known = "" if status is None else status.config.state_dir
    folder = Path(known) if known else config.settings.state_dir
    return active, folder, await asyncio.to_thread(history, folder, config.path)


def _of(kept: Sequence[Activation], name: str) -> Activation | None:
    return next((one for one in kept if one.policy_hash == name), None)


async def _difference(
    visit: Visit, folder: Path, before: Activation | None, after: Activation | None
) -> dict[str, Any] | None:
    """Return what differs, with values; ``None`` where one of both was not kept."""
    if before is None or after is None:
        return None
    try:
        return await asyncio.to_thread(difference, folder, before, after)
    except OSError as error:
        visit.problems.append(f"{error.filename} cannot be read: {error.strerror}")
        return None


async def reload(visit: Visit) -> Response:
    """Reload every server with this configuration, and show the results."""
    path, results = visit.console.config.path, list[ReloadResult | None]()
    visit.record("reload", path=str(path))
    try:
        results = await asyncio.to_thread(ask_for_reload, path, visit.session.user)
        if not results:
            text = "no server with this configuration runs on this machine as this user"
            visit.problems.append(text)
    except (OSError, ValueError) as error:
        visit.problems.append(f"the server cannot be reached: {error}")
    visit.console.server.forget()
    return await changes(visit, results)


async def replay(visit: Visit) -> Response:
    """Replay the last day on the file on the disk, another one, or kept files, unless one runs."""
    job, config, form = visit.console.replay, visit.console.config, visit.form
    name, kept, since = form.get("file", ""), form.get("kept", ""), time.time() - DAY_S
    _, folder, known = await _kept(visit)
    others = await asyncio.to_thread(config.others)
    if (kept and _of(known, kept) is None) or (name and name not in others):
        raise web.HTTPNotFound
    path = config.path.with_name(name or config.path.name)
    if not job.is_running:
        visit.record("replay", path=str(path), policy_hash=kept)
        job.start(since=since, file=path.name, kept=kept, folder=str(folder))
    raise web.HTTPSeeOther(f"/changes/back?to={kept}" if "back" in form else "/changes#replay")


async def cancel_replay(visit: Visit) -> Response:
    """End the replay, if one runs."""
    if visit.console.replay.is_running:
        visit.record("replay_cancelled", of=visit.console.replay.name_of_config)
        await visit.console.replay.cancel()
    raise web.HTTPSeeOther("/changes#replay")


def _is_replayed(visit: Visit, policy_hash: str) -> bool:
    """Return whether a replay on kept files has just ended, with or without a result."""
    job = visit.console.replay
    is_recent = time.time() - (job.started or 0) < REPLAY_COUNTS_S
    return job.name_of_config == policy_hash and is_recent and not job.is_running


async def back(visit: Visit) -> Response:
    """Show what going back would change, and ask whether to do it."""
    console, to = visit.console, visit.text("to")
    active, folder, kept = await _kept(visit)
    if (target := _of(kept, to)) is None or console.config.settings.bundle is not None:
        raise web.HTTPNotFound
    return visit.render(
        "back.html",
        target=target,
        active=active,
        is_replayed=_is_replayed(visit, to),
        difference=await _difference(visit, folder, _of(kept, active), target),
    )


async def go_back(visit: Visit) -> Response:
    """Let the server decide by kept files, once after each replay on them."""
    console, to, why = visit.console, visit.form.get("to", ""), visit.form.get("why", "")
    if not _is_replayed(visit, to) or console.config.settings.bundle is not None:
        raise web.HTTPConflict
    console.replay.started = console.replay.last = None
    visit.record("go_back", policy_hash=to, why=why)
    author = ": ".join(filter(None, (visit.session.user, why)))
    found = await visit.ask_server(f"/activate/{to}", author)
    console.server.forget()
    results = msgspec.convert(found["results"], list[ReloadResult | None]) if found else ()
    return await changes(visit, results)


async def changes(visit: Visit, results: Results = ()) -> Response:
    """Show what changed, and the configuration in force and on the disk."""
    settings, status = visit.console.config.settings, await visit.status()
    active_hash, folder, kept = await _kept(visit)
    disk = await visit.dry_run("check")
    instance = settings.instance if status is None else status.instance
    found = changes_of(await visit.search(lines) or (), kept, instance)
    chosen = _chosen(found, whole_number(visit.text("at")), visit.text("policy"))
    around = differs = to_come = back_to = None
    if chosen is not None:
        around = await visit.search(_around, chosen.at, time.time())
        differs = await _difference(visit, folder, chosen.former, chosen.kept)
        back_to = chosen.former if chosen.policy == active_hash else chosen.kept
    active = _of(kept, active_hash)
    if active and disk and disk["policy_hash"] not in ("", active_hash):
        # A secret that the console may not read counts as the same.
        secrets = active.secrets | {name: one for name, one in disk["secrets"].items() if one}
        present = msgspec.structs.replace(active, files=disk["files"], secrets=secrets)
        to_come = await _difference(visit, folder, active, present)
    return visit.render(
        "changes.html",
        active=None if status is None else status.config,
        disk=disk,
        is_same=bool(active_hash) and disk is not None and disk["policy_hash"] == active_hash,
        to_come=to_come,
        asks=visit.request.method in ("GET", "HEAD") and visit.request.path == "/changes/reload",
        results=results,
        others=await asyncio.to_thread(visit.console.config.others),
        changes=found,
        chosen=chosen,
        difference=differs,
        around=around,
        back_to=None if settings.bundle is not None else back_to,
    )


def _chosen(found: Sequence[Change], until: int, policy: str) -> Change | None:
    """Return the change of a URL: by its time, or the latest one until then with a policy hash;
    without both, the latest that changed something.
    """
    for one in found:
        is_one = one.kind != "reload" or one.texts or one.former or one.back_to
        if policy in ("", one.policy) and (int(one.key) <= until if until else is_one):
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
