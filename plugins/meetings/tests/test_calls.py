"""What calls to a meeting get, with halves of each case on different servers or workers."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from pexpolicy import SharedUnavailableError
from pexpolicy_meetings.meeting import Fault, Meeting, parsed_invitation
from pexpolicy_meetings.store import IdempotencyKey, Stored, made_invitation
from tests.support.booked import Servers, at

ALIAS = "sip:812345678@acme.example.com"
RESULT = {
    "name": "812345678",
    "service_tag": "t=acme&m=crm-7",
    "service_type": "conference",
    "description": "Review",
    "pin": "471100",
    "allow_guests": True,
    "guest_pin": "081500",
}


def stored(found: Stored | list[Fault]) -> Stored:
    assert isinstance(found, Stored), found
    return found


async def test_a_cancelled_meeting_says_so_until_another_one_has_its_alias(start: Any) -> None:
    async with start() as servers:
        await servers.put()
        tomorrow = {"start": "2030-06-02T08:00:00Z", "end": "2030-06-02T09:00:00Z"}
        stored(await servers.put(meeting_id="crm-8", **tomorrow))
        await servers.edit(lambda one: replace(one, cancelled_at=servers.now))
        assert await servers.call(ALIAS) == "cancelled"
        stored(await servers.put(meeting_id="crm-9"))
        assert (await servers.call(ALIAS)) == {**RESULT, "service_tag": "t=acme&m=crm-9"}
        assert await servers.call(ALIAS, "22:00:00") == "opens at 2030-06-02T07:30:00Z"
        revived = await servers.put()
        assert revived == [Fault("/aliases/0", "is in use at that time", 409)]


async def test_a_user_part_belongs_to_one_meeting_at_a_time(start: Any) -> None:
    async with start() as servers:
        await servers.put()
        taken = [Fault("/aliases/0", "is in use at that time", 409)]
        assert await servers.put(meeting_id="crm-8") == taken
        other = {"aliases": ["812345678@bolt.example.com"]}
        assert await servers.put("bolt", "b-1", **other) == taken
        later = {"start": "2030-06-01T10:30:00Z", "end": "2030-06-01T11:00:00Z"}
        stored(await servers.put("bolt", "b-1", **other, **later))
        assert (await servers.call("812345678", "11:00:00"))["service_tag"] == "t=bolt&m=b-1"
        assert await servers.call(ALIAS, "11:00:00") == "ended"
        moved = await servers.put(end="2030-06-01T11:00:00Z")
        assert moved == taken


async def test_of_many_at_once_one_gets_the_alias(start: Any) -> None:
    async with start() as servers:
        tried = [servers.put(meeting_id=f"crm-{number}") for number in range(20)]
        found = await asyncio.gather(*tried)
        assert sum(isinstance(one, Stored) for one in found) == 1


async def test_what_is_left_out_is_made(start: Any) -> None:
    async with start() as servers:
        none = {"aliases": None, "host_pin": None, "guest_pin": None}
        names = set()
        for number in range(20):
            found = stored(await servers.put(meeting_id=f"m-{number}", **none)).meeting
            (alias,) = found.aliases
            assert alias.startswith("8")
            assert len(alias) == len("812345678@acme.example.com")
            assert len(found.host_pin) == len(found.guest_pin) == 6
            assert found.host_pin != found.guest_pin
            names.add(found.name)
            again = stored(await servers.put(meeting_id=f"m-{number}", **none)).meeting
            assert again == found
        assert len(names) == 20


async def test_an_idempotency_key_makes_one_meeting_for_a_day(start: Any) -> None:
    async with start() as servers:
        key = IdempotencyKey("k1", "the body")
        free = {"aliases": None, "key": key}
        for meeting_id in ("made-1", "made-2"):
            assert stored(await servers.put(meeting_id=meeting_id, **free)).meeting.id == "made-1"
        servers.now += 86_401
        later = stored(await servers.put(meeting_id="made-9", **free))
        assert later.meeting.id == "made-9"


async def test_no_change_is_lost(start: Any) -> None:
    async with start() as servers:
        await servers.put(title="")

        def longer(one: Meeting) -> Meeting:
            return replace(one, title=one.title + "x")

        await asyncio.gather(*(servers.edit(longer) for _ in range(10)))
        found = await servers.plugin().store.get("acme", "crm-7")
        assert found.title == "x" * 10


async def invited(servers: Servers, **body: Any) -> str:
    """Return the alias of an invitation."""
    tenant = servers.plugin().tenants["acme"]

    def invite(one: Meeting) -> Meeting | list[Fault]:
        made = parsed_invitation(body, made_invitation(tenant, one))
        if isinstance(made, list):
            return made
        return replace(one, invitations=(*one.invitations, made))

    return (await servers.edit(invite)).invitations[-1].alias


@pytest.mark.parametrize(
    ("lobby", "fields", "host"),
    [
        ("none", {"pin": "471100"}, {"preauthenticated_role": "chair"}),
        ("host", {"pin": "471100", "allow_guests": True}, {"preauthenticated_role": "chair"}),
        (
            "locked",
            {"pin": "471100", "allow_guests": True, "locked": True},
            {"preauthenticated_role": "chair", "bypass_lock": True},
        ),
    ],
)
async def test_the_lobby(
    start: Any, lobby: str, fields: dict[str, Any], host: dict[str, Any]
) -> None:
    async with start() as servers:
        await servers.put(lobby=lobby, guest_pin=None)
        found = await servers.call(ALIAS)
        names = ("pin", "allow_guests", "locked")
        assert {name: found[name] for name in names if name in found} == fields
        assert ("guest_pin" in found) == (lobby != "none")
        alias = await invited(servers, role="host")
        assert (await servers.call(alias))["pin"] == "471100"
        properties = await servers.outcome(alias, "participant_properties")
        assert properties.decision.set_fields() == host


async def test_the_last_answer_holds_while_the_database_does_not_answer(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as servers:
        await servers.put()
        for _ in servers.policies:
            assert await servers.call(ALIAS) == RESULT

        async def fail(*_: object, **__: object) -> None:
            raise SharedUnavailableError("gone")

        for policy in servers.policies:
            monkeypatch.setattr(servers.plugin().store, "by_alias", fail)
            assert policy
        assert await servers.call(ALIAS) == RESULT
        assert await servers.call(ALIAS, "10:00:00") == "ended"
        unknown = await servers.outcome("899999999@acme.example.com")
        assert unknown.decision.action == "reject"
        of_rooms = {"service_tag": "t=acme", "service_name": "Hall"}
        alias = "899999999@acme.example.com"
        participant = await servers.outcome(alias, "participant_properties", **of_rooms)
        assert participant.decided_by == "default"


async def test_meetings_are_deleted_after_their_time(start: Any) -> None:
    async with start() as servers:
        await servers.put()
        servers.now = at("10:00:00") + 30 * 86_400 - 1
        await servers.plugin().store.sweep()
        assert await servers.call(ALIAS) == "ended"
        servers.now += 1
        await servers.plugin().store.sweep()
        assert await servers.call(ALIAS) == ""
