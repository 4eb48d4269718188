"""The repair of what is known, by the participants that the Management API lists.

Events that were lost are made up for: the repair puts events of its own, without a node, among
those of the nodes, so all plugins get them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pexpolicy.events import ParticipantEvent
from pexpolicy.models.event import STALE, typed_event
from pexpolicy_live.participants import KEPT_S, MAX_NAME, Participant, TenantOf

SEQ = 10**9
"""The number of its events: at the same time they win."""
FIELDS = [name for name in ParticipantEvent.__annotations__ if name not in ("uuid", "call_id")]

ADDED, CHANGED, ENDED = "added", "changed", "ended"
Body = dict[str, Any]
"""An event, or the fields of one."""


def listed(rows: Iterable[Mapping[str, Any]]) -> dict[str, Body]:
    """Return the fields of events of the participants that the API lists, by ``uuid``."""
    found = {}
    for row in rows:
        uuid, room = row.get("id"), row.get("conference")
        if isinstance(uuid, str) and len(uuid) <= MAX_NAME and isinstance(room, str) and room:
            body: Body = {name: row[name] for name in FIELDS if name in row}
            body |= {"uuid": uuid, "call_id": row.get("call_uuid")}
            body["connect_time"] = _seconds(row.get("connect_time"))
            if body.get("role") == "host":  # by the help texts; samples have the name of events
                body["role"] = "chair"
            found[uuid] = body
    return found


def changes(
    before: Mapping[str, Participant],
    after: Mapping[str, Participant],
    told: Mapping[str, Body],
    began: float,
    tenant_of: TenantOf,
) -> Iterator[tuple[str, Body]]:
    """Yield events, each with what it changes, after which the API and what is known are equal.

    ``before`` are the participants who were in a service before the API was asked, at ``began``;
    ``after`` those who are a while after it, and of others whom it lists those who were before, as
    their conference may have ended, and whose end was reported. One of whom they differ is left to
    the events.
    """
    for uuid in before.keys() | told.keys():
        if (row := before.get(uuid)) != after.get(uuid):
            continue
        time = began if row is None else max(began, _reported(row))
        if (body := told.get(uuid)) is None:
            gone = {"uuid": uuid, "conference": row.room[0] if row and row.room else ""}
            yield ENDED, {**_envelope("participant_disconnected", time), "data": gone}
            continue
        event = {**_envelope("participant_updated", time), "data": body}
        typed = typed_event(event, "", time)
        assert isinstance(typed, ParticipantEvent)
        # One that is not reported again would expire.
        is_old = row is not None and _reported(row) < began - KEPT_S / 2
        if row is None or is_old or _shown(row.merged(typed, tenant_of)) != _shown(row):
            yield CHANGED if row else ADDED, event


def _reported(row: Participant) -> float:
    """Return the time of the last report of a participant, by the clock of a node."""
    return max((stay.last[1] for stay in row.rooms.values()), default=0.0)


def _shown(row: Participant) -> object:
    facts = {name: one[-1] for name, one in row.facts.items()}
    return row.room and row.room[0], row.is_connected, facts


def _seconds(written: object) -> float | None:
    """Return a time of the API, which is in UTC and usually without a zone."""
    try:
        time = datetime.fromisoformat(str(written))
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _envelope(event: str, time: float) -> Body:
    return {"node": "", "seq": SEQ, "version": 2, "time": time, "event": event}


def fresh(began: float) -> Body:
    """Return the event after which a source is not stale by what was missing before."""
    return {**_envelope(STALE, began), "data": {"is_stale": False}}
