"""Random requests of booking systems and calls: answers follow what was confirmed last."""

import random
from typing import Any

import pytest
from msgspec.structs import replace

from pexpolicy_meetings.meeting import DAY_S, Meeting, rfc3339
from pexpolicy_meetings.store import Stored
from tests.support.booked import Servers

USERS = ("81", "82", "83")
IDS = ("a", "b", "c", "d")
HOUR_S = 3600.0


def expected(known: dict[str, Meeting], alias: str, now: float) -> str:
    """Return the id of the meeting that a call gets, or why it gets none."""
    found = [one for one in known.values() if alias in one.aliases]
    if not found:
        return ""

    def distance(one: Meeting) -> tuple[float, bool, float]:
        if one.cancelled_at is not None or one.closes <= one.opens:
            return abs(one.opens - now), True, -one.opens
        return max(one.opens - now, now - one.closes, 0.0), False, -one.opens

    nearest = min(map(distance, found))
    near = [one for one in found if distance(one) == nearest]
    state = near[0].state(now)
    if state == "open":
        return near[0].id
    return f"opens at {rfc3339(near[0].opens)}" if state == "scheduled" else state


async def change(servers: Servers, known: dict[str, Meeting], rng: random.Random) -> None:
    """Make one change; what was confirmed is known."""
    meeting_id, now = rng.choice(IDS), servers.now
    action = rng.choice(["put", "put", "put", "cancel", "end", "extend"])
    if action == "put":
        start = now + rng.randrange(-3, 6) * HOUR_S
        aliases = [f"{user}@acme.example.com" for user in rng.sample(USERS, rng.choice((1, 2)))]
        times: dict[str, Any] = {"start": rfc3339(start), "end": rfc3339(start + HOUR_S)}
        found = await servers.put("acme", meeting_id, aliases=aliases, **times)
        if isinstance(found, Stored):
            known[meeting_id] = found.meeting
        else:
            assert {one.status for one in found} == {409}
        return
    if meeting_id not in known or known[meeting_id].cancelled_at is not None:
        return
    fields = {
        "cancel": {"cancelled_at": now},
        "end": {"ended_at": now},
        "extend": {"end": known[meeting_id].end + HOUR_S},
    }[action]
    found = await servers.edit_or_faults(lambda one: replace(one, **fields), meeting_id)
    if isinstance(found, Stored):
        known[meeting_id] = found.meeting


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


@pytest.mark.parametrize("seed", range(5))
async def test_answers_follow_what_was_confirmed_last(start: Any, seed: int) -> None:
    rng, known = random.Random(seed), dict[str, Meeting]()
    async with start() as servers:
        for _ in range(60):
            await change(servers, known, rng)
            assert not overlaps(known)
            servers.now += rng.choice((0.0, 60.0, HOUR_S / 2, HOUR_S))
            for user in USERS:
                alias = f"{user}@acme.example.com"
                found = await servers.call(rng.choice((alias, user, f"sip:{alias}:5060")))
                if isinstance(found, dict):
                    found = found["service_tag"].partition("m=")[2]
                assert found == expected(known, alias, servers.now)
            if rng.random() < 0.1:
                await servers.plugin().store.sweep()
        servers.now += 40 * DAY_S
        await servers.plugin().store.sweep()
        assert await servers.call("81") == ""
