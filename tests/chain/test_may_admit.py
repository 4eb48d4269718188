"""What adjusters may not open without may_admit, on the wire."""

from typing import Any

import pytest

from pexpolicy import Conference, Continue
from tests.support import wire
from tests.support.adjusting_rows import CLOSED, KEPT, REMOVED, THEME, Row, cases, check, row
from tests.support.fake_plugins import Serve, always, plugin
from tests.support.secret_canaries import PIN

REJECTS = [
    row(
        "an adjuster rejects: the reject is its own",
        "rooms=redirect a~reject -> rooms decided, a adjusted",
        action="reject",
        by="a",
        reason="full",
        changes={
            "a": {
                "action": {"from": "redirect", "to": "reject"},
                "new_alias": {"from": "sip:desk@example.com"},
                "reason": {"to": "full"},
            }
        },
    ),
    row(
        "a reject is not adjusted into an admission",
        "rooms=reject a~admit -> rooms decided, a invalid",
        **CLOSED,
        detail="turns a reject into an admission: write may_admit = true",
    ),
    row(
        "nor into a continue",
        "rooms=reject a~leave -> rooms decided, a invalid",
        **CLOSED,
        detail="may_admit",
    ),
    row(
        "nor into a redirect",
        "rooms=reject a~redirect -> rooms decided, a invalid",
        **CLOSED,
        detail="may_admit",
    ),
    row(
        "the reject stays with on_error = reject as well, as it was",
        "rooms=reject a~admit+strict b~admit+may -> rooms decided, a invalid",
        **CLOSED,
        detail="may_admit",
    ),
    row(
        "may_admit admits",
        "rooms=reject a~leave+may -> rooms decided, a adjusted",
        by="a",
        reason="left to Infinity",
        changes={
            "a": {
                "action": {"from": "reject", "to": "continue"},
                "reason": {"from": "closed", "to": "left to Infinity"},
            }
        },
    ),
    row(
        "may_admit of one plugin is not that of another",
        "rooms=reject a~none+may b~leave -> rooms decided, a abstained, b invalid",
        **CLOSED,
        detail="may_admit",
    ),
    row(
        "a reject may get another reason",
        "rooms=reject a~other_reason -> rooms decided, a adjusted",
        action="reject",
        reason="closed today",
        changes={"a": {"reason": {"from": "closed", "to": "closed today"}}},
    ),
    row(
        "a reject after an admission stays for those that follow",
        "rooms=redirect a~reject b~admit -> rooms decided, a adjusted, b invalid",
        action="reject",
        by="a",
        reason="full",
        detail="may_admit",
    ),
    row(
        "the reject of a failed plugin is not adjusted",
        "rooms=fail+strict a~leave+may -> rooms failed",
        action="reject",
        reason="rooms failed, and its on_error is reject",
        detail="no database",
    ),
    row(
        "no PIN is removed",
        "rooms=room a~open -> rooms decided, a invalid",
        sent=KEPT,
        detail="write may_admit = true in the table of the plugin if it may. Such an answer is not",
    ),
    row(
        "nor emptied",
        "rooms=room a~blank -> rooms decided, a invalid",
        sent=KEPT,
        detail="removes pin",
    ),
    row(
        "nor left to Infinity",
        "rooms=room a~leave -> rooms decided, a invalid",
        sent=KEPT,
        detail="removes pin",
    ),
    row(
        "nor removed by two adjusters in turn",
        "rooms=room a~redirect b~leave -> rooms decided, a adjusted, b invalid",
        action="redirect",
        by="a",
        detail="removes pin",
    ),
    row(
        "what one adjuster may remove is gone for those that follow",
        "rooms=room a~open+may b~bergen -> rooms decided, a adjusted, b adjusted",
        sent={"pin": None, "ivr_theme_name": "Bergen"},
        changes={"a": {"pin": {"from": REMOVED}}, "b": THEME},
    ),
    row(
        "may_admit removes a PIN, and the line does not show it",
        "rooms=room a~open+may -> rooms decided, a adjusted",
        sent={"pin": None, "name": "Board"},
        changes={"a": {"pin": {"from": REMOVED}}},
    ),
    row(
        "a PIN is replaced, and the line does not show it",
        "rooms=room a~repin -> rooms decided, a adjusted",
        sent={"pin": PIN[::-1]},
        changes={"a": {"pin": {"from": REMOVED, "to": REMOVED}}},
    ),
]


@pytest.mark.parametrize(("row", "instead"), cases(*REJECTS))
async def test_on_the_wire(serving: Serve, row: Row, instead: dict[str, str]) -> None:
    await check(serving, row, instead)


async def _left_with_its_fields(decision: Any) -> object:
    return Continue.from_result(decision.set_fields())


async def _emptied(decision: Any) -> object:
    object.__setattr__(decision, "result", b'{"name":"R","service_tag":"","pin":""}')
    return decision


@pytest.mark.parametrize("hook", [_left_with_its_fields, _emptied])
async def test_no_adjuster_removes_a_pin_by_a_trick(serving: Serve, hook: Any) -> None:
    async def describe(decision: Any) -> object:
        return decision.replace(description="x")

    classes = {
        "rooms": plugin(
            service_configuration=always(Conference(name="R", service_tag="", pin=PIN))
        ),
        "a": plugin(adjust_service_configuration=hook),
        "b": plugin(adjust_service_configuration=describe),
    }
    async with serving(classes, {"a": {"on_error": "reject"}}) as server:
        reply = await server.ask(wire.SERVICE)
    assert server.steps()[1] == ("a", "invalid")
    assert (reply.json["action"], "result" in reply.json) == ("reject", False)
