"""Restricting: it is asked last and always, and may only narrow the decision."""

from typing import Any

import pytest

from pexpolicy import (
    UNSET,
    Conference,
    Continue,
    Decision,
    Lecture,
    MediaPlayback,
    ParticipantProperties,
    Redirect,
    Reject,
    hookimpl,
)
from pexpolicy.testing import decide_sync, make_request
from tests.support.adjusting_rows import CLOSED, LOCK, THEME, Row, cases, check, row
from tests.support.fake_plugins import Serve

FULL: dict[str, Any] = {
    "action": "reject",
    "by": "a",
    "reason": "full",
    "changes": {"a": {"action": {"from": "continue", "to": "reject"}, "reason": {"to": "full"}}},
}

ASKED = [
    row(
        "the default is restricted", "rooms=abstain a!reject -> rooms abstained, a adjusted", **FULL
    ),
    row("also where no other plugin is", "a!reject -> a adjusted", **FULL),
    row(
        "the decision of a plugin is restricted after it was adjusted",
        "rooms=room a!lock b~bergen -> rooms decided, b adjusted, a adjusted",
        sent={"ivr_theme_name": "Bergen", "locked": True},
        changes={"a": LOCK, "b": THEME},
        reason="after hours",
    ),
    row(
        "a reject is seen, and stays one",
        "rooms=reject a!none b!admit+may -> rooms decided, a abstained, b invalid",
        **CLOSED,
        detail="it turns a reject into an admission: reject, lower",
    ),
    row(
        "so does the reject of a failure",
        "rooms=fail+strict b~admit+may a!admit -> rooms failed, a invalid",
        action="reject",
        reason="rooms failed, and its on_error is reject",
        detail="no database",
    ),
    row(
        "each is given what the one before it made of it",
        "rooms=room a!slow b!lock c!open -> rooms decided, a adjusted, b adjusted, c invalid",
        sent={"max_callrate_in": 128_000, "locked": True},
        changes={"a": {"max_callrate_in": {"to": 128_000}}, "b": LOCK},
        reason="after hours",
        detail="it does not narrow pin",
    ),
    row(
        "a plugin that fails changes nothing",
        "rooms=room a!fail b!lock -> rooms decided, a failed, b adjusted",
        sent={"locked": True},
        changes={"b": LOCK},
        reason="after hours",
        detail="no database",
    ),
    row(
        "or rejects",
        "rooms=room a!late+brief+strict -> rooms decided, a timed_out",
        action="reject",
        by="a",
        reason="a was late, and its on_error is reject",
        detail="no answer within",
    ),
    row(
        "in a process of its own",
        "rooms=abstain a!reject+process -> rooms abstained, a adjusted",
        **FULL,
    ),
    row(
        "a shadow restricts the default",
        "rooms=abstain a!reject+shadow -> rooms abstained",
        by="default",
        shadow={"decided_by": "a", "differs": True},
    ),
    row(
        "participants of rooms that no plugin decided",
        "a!mute -> a adjusted",
        participant=True,
        by="a",
        sent={"rx_presentation_policy": "DENY"},
        changes={"a": {"rx_presentation_policy": {"to": "DENY"}}},
    ),
]


@pytest.mark.parametrize(("row", "instead"), cases(*ASKED))
async def test_on_the_wire(serving: Serve, row: Row, instead: dict[str, str]) -> None:
    await check(serving, row, instead)


ROOM = Conference(name="Board", service_tag="b")
CLOSED_ROOM = ROOM.replace(pin="123456", allow_guests=True, guest_pin="654321")
PLAYED: dict[str, Any] = {"name": "Full", "service_tag": "", "media_playlist_name": "Full"}
ROLE = ParticipantProperties(preauthenticated_role="guest")
STOP: Any = {"disconnect": True}
LOOP: Any = {"transfer": {"conference": "board", "role": "chair"}}

NARROWER: list[tuple[Decision, object]] = [
    (ROOM, Reject()),
    (ROOM, ROOM.replace(max_callrate_in=128_000, max_callrate_out=128_000)),
    (ROOM.replace(max_callrate_in=512_000), ROOM.replace(max_callrate_in=256_000)),
    (ROOM, ROOM.replace(pin="123456")),
    (ROOM, {**ROOM.set_fields(), "pin": "123456", "allow_guests": True}),
    (ROOM.replace(pin="123456", allow_guests=True), CLOSED_ROOM),
    (CLOSED_ROOM, CLOSED_ROOM.replace(allow_guests=False, guest_pin=UNSET)),
    (ROOM, ROOM.replace(guests_can_present=False, enable_chat="no", participant_limit=5)),
    (ROOM, ROOM.replace(locked=True, mute_all_guests=True, non_idp_participants="disallow_all")),
    (ROOM, MediaPlayback(**PLAYED)),
    (Continue(), MediaPlayback(**PLAYED, on_completion=STOP)),
    (Redirect(new_alias="sip:a@example.com"), Reject()),
    (Continue(), ParticipantProperties(bypass_lock=False, can_receive_personal_mix=False)),
    (ParticipantProperties(preauthenticated_role="chair"), ROLE),
    (ROLE, ROLE.replace(preauthenticated_role=None)),
]
WIDER: list[tuple[Decision, object]] = [
    (ROOM, ROOM.replace(description="Full")),
    (ROOM, ROOM.replace(name="Other")),
    (ROOM, Continue()),
    (ROOM, Redirect(new_alias="sip:a@example.com")),
    (ROOM, Lecture(name="Board", service_tag="b")),
    (ROOM, MediaPlayback(**{**PLAYED, "name": "board "})),
    (ROOM, MediaPlayback(**PLAYED, on_completion=LOOP)),
    (ROOM.replace(max_callrate_in=256_000), ROOM.replace(max_callrate_in=512_000)),
    (ROOM.replace(max_callrate_in=256_000), ROOM),
    (CLOSED_ROOM, CLOSED_ROOM.replace(pin="123457")),
    (CLOSED_ROOM, CLOSED_ROOM.replace(guest_pin=UNSET)),
    (CLOSED_ROOM.replace(allow_guests=False, guest_pin=UNSET), CLOSED_ROOM),
    (ROOM.replace(guests_can_present=False), ROOM.replace(guests_can_present=True)),
    (ROOM.replace(locked=True), ROOM),
    (Continue(), ROOM),
    (Continue(), Redirect(new_alias="sip:a@example.com")),
    (Redirect(new_alias="sip:a@example.com"), Redirect(new_alias="sip:b@example.com")),
    (Reject(), MediaPlayback(**PLAYED)),
    (Continue(), ParticipantProperties(bypass_lock=True)),
    (Continue(), ROLE),
    (ROLE, ROLE.replace(preauthenticated_role="chair")),
    (Continue(), ParticipantProperties(call_tag="vip")),
]


def asked(before: Decision, answer: Any, role: str = "") -> str:
    """Return the outcome of the step of a plugin that answers so, and ``+`` if that was sent."""
    participant = ParticipantProperties in (type(before), type(answer))
    endpoint = "participant_properties" if participant else "service_configuration"

    class Rooms:
        @hookimpl(specname=endpoint)
        async def decide(self) -> Decision:
            return before

    class Limits:
        @hookimpl(specname=f"restrict_{endpoint}")
        async def narrow(self) -> Any:
            return answer

    parameters: dict[str, Any] = {"preauthenticated_role": role} if participant else {}
    outcome = decide_sync([Rooms, Limits], make_request(endpoint, **parameters))
    if not isinstance(answer, Decision):
        answer = Conference(**answer)
    is_sent = outcome.decision.facts() == answer.facts()
    assert is_sent or outcome.decision.facts() == before.facts()
    return f"{outcome.steps[-1].outcome}{'+' * is_sent}"


@pytest.mark.parametrize(("before", "answer"), NARROWER)
def test_a_narrower_answer_is_sent(before: Decision, answer: object) -> None:
    assert asked(before, answer) == "adjusted+"


@pytest.mark.parametrize(("before", "answer"), WIDER)
def test_any_other_answer_is_invalid(before: Decision, answer: object) -> None:
    assert asked(before, answer) == "invalid"


@pytest.mark.parametrize(("role", "expected"), [("chair", "adjusted+"), ("", "invalid")])
def test_a_role_is_compared_with_that_of_the_request(role: str, expected: str) -> None:
    assert asked(Continue(), ROLE, role) == expected
