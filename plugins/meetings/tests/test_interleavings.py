"""Requests of booking systems, calls and restarts: answers follow what was confirmed last."""

import asyncio
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pexpolicy_meetings.meeting import DAY_S, Fault, Meeting, patched, rfc3339
from pexpolicy_meetings.store import Stored
from tests.support.booked import Servers

pytestmark = pytest.mark.slow

STEPS = 20
NUMBERS = itertools.count(100)
"""Each example has aliases and meetings of its own, in one database."""
HOUR_S = 3600.0


def expected(known: dict[str, Meeting], alias: str, now: float) -> set[str]:
    """Return the id of the meeting that a call gets, or why it gets none.

    Of several that never open, and would have begun at the same time, either may be the reason.
    """
    found = [one for one in known.values() if alias in one.aliases]

    def distance(one: Meeting) -> tuple[float, bool, float]:
        if one.cancelled_at is not None or one.closes <= one.opens:
            return abs(one.opens - now), True, -one.opens
        return max(one.opens - now, now - one.closes, 0.0), False, -one.opens

    nearest = min(map(distance, found), default=None)
    near = [one for one in found if distance(one) == nearest]
    return {answer(one, now) for one in near} or {""}


def answer(meeting: Meeting, now: float) -> str:
    state = meeting.state(now)
    if state == "open":
        return meeting.id
    return f"opens at {rfc3339(meeting.opens)}" if state == "scheduled" else state


async def change(
    servers: Servers, known: dict[str, Meeting], rng: random.Random, users: list[str]
) -> None:
    """Make one change; what was confirmed is known."""
    meeting_id, now = f"{users[0]}-{rng.randrange(4)}", servers.now
    action = rng.choice(["put", "put", "put", "cancel", "end", "patch", "patch"])
    aliases = [f"{user}@acme.example.com" for user in rng.sample(users, rng.choice((1, 2)))]
    if action == "put":
        start = now + rng.randrange(-3, 6) * HOUR_S
        times: dict[str, Any] = {"start": rfc3339(start), "end": rfc3339(start + HOUR_S)}
        found = await servers.put("acme", meeting_id, aliases=aliases, **times)
        if isinstance(found, Stored):
            known[meeting_id] = found.meeting
        else:
            assert {one.status for one in found} == {409}
        return
    if meeting_id not in known or known[meeting_id].cancelled_at is not None:
        return
    patch: dict[str, Any] = {
        "end": rfc3339(known[meeting_id].end + HOUR_S),
        "late_minutes": rng.choice((0, 180, None)),
        "aliases": aliases,
        "title": None,
    }
    patch = {name: patch[name] for name in rng.sample([*patch], rng.choice((1, 2)))}
    acme = servers.plugin().tenants["acme"]
    edits: dict[str, Callable[[Meeting], Meeting | list[Fault]]] = {
        "cancel": lambda one: replace(one, cancelled_at=now),
        "end": lambda one: replace(one, ended_at=now),
        "patch": lambda one: patched(one, patch, acme, now),
    }
    found = await servers.edit_or_faults(edits[action], meeting_id)
    if isinstance(found, Stored):
        known[meeting_id] = found.meeting
    else:
        assert {one.status for one in found} == {409}


def overlaps(known: dict[str, Meeting]) -> bool:
    held = [one for one in known.values() if one.is_held]
    return any(
        one.id < other.id
        and set(one.aliases) & set(other.aliases)
        and one.opens < other.closes
        and other.opens < one.closes
        for one in held
        for other in held
    )


async def follow(start: Any, rng: random.Random) -> None:
    known, number, now = dict[str, Meeting](), next(NUMBERS), 0.0
    users = [f"8{number}{one}" for one in range(3)]
    for _ in range(rng.choice((1, 2, 3))):
        async with start() as servers:
            servers.now = now = max(now, servers.now)
            for _ in range(STEPS):
                await change(servers, known, rng, users)
                assert not overlaps(known)
                servers.now = now = now + rng.choice((0.0, 60.0, HOUR_S / 2, HOUR_S))
                for user in users:
                    alias = f"{user}@acme.example.com"
                    found = await servers.call(rng.choice((alias, user, f"sip:{alias}:5060")))
                    if isinstance(found, dict):
                        found = found["service_tag"].partition("m=")[2]
                    assert found in expected(known, alias, now)
                if rng.random() < 0.1:
                    await servers.plugin().store.sweep()
    async with start() as servers:
        servers.now = now + 40 * DAY_S
        await servers.plugin().store.sweep()
        assert await servers.call(users[0]) == ""


@given(rng=st.randoms(use_true_random=False))
@settings(max_examples=10, suppress_health_check=[*HealthCheck], phases=[Phase.generate])
def test_answers_follow_what_was_confirmed_last(start: Any, rng: random.Random) -> None:
    asyncio.run(follow(start, rng))
