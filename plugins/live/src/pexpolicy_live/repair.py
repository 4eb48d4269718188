"""The repair of what is known, by the participants that the Management API lists.

Events that were lost are made up for: the repair puts events of its own, without a node, among
those of the nodes, so all plugins get them.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from pexpolicy import Store, metrics, wall_clock
from pexpolicy.events import ParticipantEvent
from pexpolicy.events.receiver import Inbox, inbox_row
from pexpolicy.models.event import STALE, typed_event
from pexpolicy_live.participants import KEPT_S, Participant, TenantOf

TICK_S = 5.0
"""Seconds between two looks whether a repair is due."""
EVERY_S = 600.0
"""Seconds between two repairs, shortened at random by up to a fifth."""
APART_S = 60.0
"""The least seconds between two repairs, also after one that failed."""
API_S = 30.0
"""Seconds for all pages of the API."""
PAUSE_S = 2.0
"""Seconds for events on their way, after the answer of the API."""
SETTLED_S = 30.0
"""Seconds for which the API may still list a participant whose end was reported."""
SEQ = 10**9
"""The number of its events: at the same time they win."""
FIELDS = [name for name in ParticipantEvent.__annotations__ if name not in ("uuid", "call_id")]

CHANGES = metrics.counter("repaired", "Participants that a repair changed.", ["change"])
ADDED, CHANGED, ENDED = "added", "changed", "ended"
Body = dict[str, Any]
"""An event, or the fields of one."""


class Known(NamedTuple):
    """What is known of the participants of a platform, by ``uuid``."""

    inside: Mapping[str, Participant]
    """Those in a service."""
    ended: Mapping[str, Participant]
    """Of those that the API lists, those whose end was reported."""


def listed(rows: Iterable[Mapping[str, Any]]) -> dict[str, Body]:
    """Return the fields of events of the participants that the API lists, by ``uuid``."""
    found = {}
    for row in rows:
        if isinstance(uuid := row.get("id"), str) and row.get("conference"):
            body: Body = {name: row[name] for name in FIELDS if name in row}
            body |= {"uuid": uuid, "call_id": row.get("call_uuid")}
            body["connect_time"] = _seconds(row.get("connect_time"))
            if body.get("role") == "host":  # by the help texts; samples have the name of events
                body["role"] = "chair"
            found[uuid] = body
    return found


def changes(
    before: Known, after: Known, told: Mapping[str, Body], began: float, tenant_of: TenantOf
) -> Iterator[tuple[str, Body]]:
    """Yield events, each with what it changes, after which the API and what is known are equal.

    ``before`` and ``after`` were known before the API was asked, at ``began``, and a while after
    it; a participant of whom they differ is left to the events.
    """
    for uuid in before.inside.keys() | told.keys():
        row, ended, body = before.inside.get(uuid), after.ended.get(uuid), told.get(uuid)
        if row != after.inside.get(uuid) or (ended and _reported(ended) > began - SETTLED_S):
            continue
        what = CHANGED if body is not None else ENDED
        if body is None:
            assert row is not None
            body = {"uuid": uuid, "conference": row.room[0] if row.room else ""}
        name = "participant_disconnected" if what is ENDED else "participant_updated"
        time = max(began, 0.0, *(_reported(one) for one in (row, ended) if one is not None))
        event = {**_envelope(name, time), "data": body}
        is_old = row is not None and _reported(row) < began - KEPT_S / 2  # it would expire
        if row is None:
            yield ADDED, event
        elif what is ENDED or is_old or _differs(row, event, tenant_of):
            yield what, event


def _reported(row: Participant) -> float:
    """Return the time of the last report of a participant, by the clock of a node."""
    stamps = [stay.last for stay in row.rooms.values()] + [one[:4] for one in row.facts.values()]
    return max(stamps)[1] if stamps else 0.0


def _differs(row: Participant, event: Body, tenant_of: TenantOf) -> bool:
    typed = typed_event(event, "", event["time"])
    assert isinstance(typed, ParticipantEvent)
    told = Participant().merged(typed, tenant_of)
    is_elsewhere = row.room is None or told.room is None or row.room[0] != told.room[0]
    is_new = told.is_connected and not row.is_connected
    return is_elsewhere or is_new or any(row.fact(n) != one[-1] for n, one in told.facts.items())


def _seconds(written: object) -> float | None:
    """Return a time of the API, which is in UTC and usually without a zone."""
    try:
        time = datetime.fromisoformat(str(written))
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _envelope(event: str, time: float) -> Body:
    return {"node": "", "seq": SEQ, "version": 2, "time": time, "event": event}


class Repair:
    """Repairs what is known of the platform ``source``, by its Management API.

    ``snapshot`` returns what is known now; ``stale_since`` when events were last missing.
    """

    def __init__(
        self,
        source: str,
        api: Any,
        snapshot: Callable[[str, Iterable[str]], Awaitable[Known]],
        stale_since: Callable[[str], float],
        tenant_of: TenantOf,
        inbox: Inbox,
        runs: Store[float],
    ) -> None:
        self._source, self._api, self._inbox, self._runs = source, api, inbox, runs
        self._snapshot, self._stale_since = snapshot, stale_since
        self._tenant_of = tenant_of
        self.clock: Callable[[], float] = wall_clock()
        self.sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
        self._pause = EVERY_S

    async def run_if_due(self) -> None:
        """Repair at the start, after events were missing, and now and then; raise why not."""
        now, of = self.clock(), f"{self._source}/"
        runs = dict(await self._runs.items(of))
        tried, done = (runs.get(of + name, 0.0) for name in ("tried", "done"))
        is_due = self._stale_since(self._source) > done or not 0 <= now - done < self._pause
        if is_due and not 0 <= now - tried < APART_S:
            await self._runs.put(f"{of}tried", now)
            await self.run()
            await self._runs.put(f"{of}done", now)
            self._pause = EVERY_S * random.uniform(0.8, 1.0)  # noqa: S311 - jitter

    async def run(self) -> None:
        """Repair now."""
        before, began = await self._snapshot(self._source, ()), self.clock()
        async with asyncio.timeout(API_S):
            rows = await self._api.objects("participant", "status")
        told = await asyncio.to_thread(listed, rows)
        await self.sleep(PAUSE_S)
        after = await self._snapshot(self._source, told.keys() - before.inside.keys())
        found = changes(before, after, told, began, self._tenant_of)
        made = await asyncio.to_thread(lambda: [*found])
        fresh = {**_envelope(STALE, began), "data": {"is_stale": False}}
        bodies = map(msgspec.json.encode, (*(event for _, event in made), fresh))
        await self._inbox.put([inbox_row(self._source, body.decode()) for body in bodies])
        for what, number in Counter(what for what, _ in made).items():
            CHANGES.inc(number, change=what)
