"""Adjusting on the wire: who is asked, what is sent, and what its audit line says."""

from typing import Any

import pytest

from pexpolicy import (
    Avatar,
    Conference,
    Continue,
    Credentials,
    Directory,
    DirectoryEntry,
    MediaLocation,
    ParticipantProperties,
    Reject,
)
from pexpolicy.config.settings import ConfigError
from pexpolicy.endpoints import ENDPOINTS
from tests.support import wire
from tests.support.adjusting_rows import (
    CLOSED,
    KEPT,
    LOCK,
    PLAIN,
    REMOVED,
    THEME,
    Row,
    cases,
    check,
    row,
)
from tests.support.fake_plugins import Serve, always, plugin, policy, raises, settings
from tests.support.secret_canaries import PIN

ORDER = [
    row(
        "an adjuster changes one field and the others stay",
        "rooms=room banner~bergen -> rooms decided, banner adjusted",
        sent={"ivr_theme_name": "Bergen", "name": "Board", "description": "Third floor"},
        changes={"banner": THEME},
    ),
    row(
        "the lower priority adjusts first, and the next one gets its result",
        "b~plain+20 a~bergen+10 rooms=room+30 -> rooms decided, a adjusted, b adjusted",
        sent={"ivr_theme_name": "Bergen", "description": None},
        changes={"a": THEME, "b": PLAIN},
    ),
    row(
        "the last of two values is sent",
        "rooms=room a~bergen b~table c~lock -> rooms decided, a adjusted, b adjusted, c adjusted",
        sent={"ivr_theme_name": "Bergen", "view": "one_main_zero_pips", "locked": True},
        changes={"a": THEME, "b": {"view": {"to": "one_main_zero_pips"}}, "c": LOCK},
        reason="after hours",
    ),
    row(
        "an adjuster that abstains changes nothing",
        "rooms=room a~none b~plain -> rooms decided, a abstained, b adjusted",
        sent={"description": None},
        changes={"b": PLAIN},
    ),
    row(
        "the decision as it was given counts as an abstention",
        "rooms=room a~same -> rooms decided, a abstained",
        sent=KEPT,
    ),
    row(
        "an equal decision changes nothing",
        "rooms=room a~bergen b~bergen -> rooms decided, a adjusted, b adjusted",
        sent={"ivr_theme_name": "Bergen"},
        changes={"a": THEME, "b": {}},
    ),
    row(
        "a plugin adjusts its own decision",
        "rooms=Both:room -> rooms decided, rooms adjusted",
        sent={"description": None},
        changes={"rooms": PLAIN},
    ),
    row(
        "an adjuster blocks in a thread and leaves out the request",
        "rooms=room a=Blocks:bergen -> rooms decided, a adjusted",
        sent={"ivr_theme_name": "Bergen"},
        changes={"a": THEME},
    ),
    row(
        "plugins after the one that decided are asked to adjust only",
        "rooms=room more=Both:room -> rooms decided, more adjusted",
        sent={"description": None},
        changes={"more": PLAIN},
    ),
    row(
        "a default that nobody decided is not adjusted",
        "rooms=abstain a~admit -> rooms abstained",
        sent=None,
        by="default",
    ),
    row(
        "a default that rejects is not adjusted",
        "rooms=abstain a~admit+may -> rooms abstained",
        by="default",
        action="reject",
        default="reject",
        reason="no plugin decided",
    ),
    row(
        "a continue is a decision, and may become a room",
        "rooms=continue a~admit -> rooms decided, a adjusted",
        sent={"name": "Board"},
        changes={
            "a": {
                **{name: {"to": value} for name, value in KEPT.items()},
                "service_tag": {"to": "b"},
                "service_type": {"to": "conference"},
                "description": {"to": "Third floor"},
                "pin": {"to": REMOVED},
                "reason": {"from": "not ours"},
            }
        },
    ),
]


def failing(what: str, outcome: str, detail: str, table: str) -> list[Row]:
    """Return the rows of one failure: the decision stays, or the call is rejected."""
    reason = {"failed": "failed", "timed_out": "was late", "invalid": "gave an invalid answer"}
    return [
        row(
            f"an adjuster that is {what} changes nothing",
            f"rooms=room a~{what}+{table} b~plain -> rooms decided, a {outcome}, b adjusted",
            sent={"ivr_theme_name": "Oslo", "description": None},
            changes={"b": PLAIN},
            detail=detail,
        ),
        row(
            f"an adjuster that is {what} rejects with on_error = reject",
            f"rooms=room a~{what}+{table}+strict b~plain -> rooms decided, a {outcome}",
            action="reject",
            by="a",
            reason=f"a {reason[outcome]}, and its on_error is reject",
            detail=detail,
        ),
    ]


FAILURES = [
    *failing("fail", "failed", "no database", ""),
    *failing("late", "timed_out", "no answer within 0.05 s", "brief"),
    *failing("nonsense", "invalid", "is not a decision of service_configuration", ""),
    *failing("wrong", "invalid", "Conference.name: is required", ""),
    *failing("unlisted", "invalid", "not listed under [infinity] themes", ""),
    *failing("forge", "invalid", "was changed after it was checked", ""),
    row(
        "a thread that is late changes nothing",
        "rooms=room a=Blocks:late+brief -> rooms decided, a timed_out",
        sent=KEPT,
        detail="no answer within 0.05 s",
    ),
    row(
        "a decision that is forged in place rejects the call",
        "rooms=fresh a~tamper -> rooms decided, a abstained",
        action="reject",
        reason="the decision of rooms was changed meanwhile",
    ),
    row(
        "an adjuster that changes fields of another class is invalid",
        "rooms=continue a~bergen -> rooms decided, a invalid",
        reason="not ours",
        detail="there is no field 'ivr_theme_name'",
    ),
]
ISOLATED = [
    row(
        "in a process: a field is changed",
        "rooms=room a~bergen+process b~plain -> rooms decided, a adjusted, b adjusted",
        sent={"ivr_theme_name": "Bergen", "description": None},
        changes={"a": THEME, "b": PLAIN},
    ),
    row(
        "in a process: a PIN is replaced",
        "rooms=room+process a~repin+process -> rooms decided, a adjusted",
        sent={"pin": PIN[::-1]},
        changes={"a": {"pin": {"from": REMOVED, "to": REMOVED}}},
    ),
    row(
        "in a process: a reject is not adjusted into an admission",
        "rooms=reject a~leave+process -> rooms decided, a invalid",
        **CLOSED,
        detail="may_admit",
    ),
    row(
        "in a process: may_admit admits",
        "rooms=reject a~leave+process+may -> rooms decided, a adjusted",
        by="a",
        reason="left to Infinity",
    ),
    row(
        "in a process: late, and its on_error rejects",
        "rooms=room a~late+process+brief+strict -> rooms decided, a timed_out",
        action="reject",
        by="a",
        reason="a was late, and its on_error is reject",
        detail="no answer within 0.05 s",
    ),
    row(
        "in a process, the decision as it was given counts as an abstention",
        "rooms=room a~same+process -> rooms decided, a abstained",
        sent=KEPT,
    ),
    row(
        "in a process: wrong, and skipped",
        "rooms=room a~wrong+process -> rooms decided, a invalid",
        sent=KEPT,
        detail="Conference.name: is required",
    ),
    row(
        "in a process: a thread adjusts",
        "rooms=room a=Blocks:bergen+process -> rooms decided, a adjusted",
        sent={"ivr_theme_name": "Bergen"},
        changes={"a": THEME},
    ),
]
SHADOWS = [
    row(
        "a shadow adjusts nothing, and its line says what it would",
        "rooms=room a~bergen+shadow -> rooms decided",
        sent=KEPT,
        shadow={"differs": True, "decided_by": "rooms", "changes": THEME, "theme": "Bergen"},
    ),
    row(
        "a shadow is given the adjusted decision",
        "rooms=room a~bergen+shadow b~bergen -> rooms decided, b adjusted",
        sent={"ivr_theme_name": "Bergen"},
        shadow={"differs": False, "decided_by": "rooms", "changes": {}, "theme": "Bergen"},
    ),
    row(
        "a shadow that fails differs in nothing that is known",
        "rooms=room a~fail+shadow+strict -> rooms decided",
        sent=KEPT,
        shadow={"differs": None, "decided_by": "a"},
    ),
    row(
        "a shadow in a process is asked after the reply as well",
        "rooms=room a~bergen+shadow+process -> rooms decided",
        sent=KEPT,
        shadow={"differs": True, "decided_by": "rooms", "changes": THEME, "theme": "Bergen"},
    ),
    row(
        "a shadow that may not admit is invalid too",
        "rooms=reject a~admit+shadow -> rooms decided",
        **CLOSED,
        shadow={"differs": None, "decided_by": "rooms"},
    ),
]


@pytest.mark.parametrize(("row", "instead"), cases(*ORDER, *FAILURES, *ISOLATED, *SHADOWS))
async def test_on_the_wire(serving: Serve, row: Row, instead: dict[str, str]) -> None:
    await check(serving, row, instead)


ENTRIES = [DirectoryEntry(alias=f"{name}@example.com", description=name) for name in "abc"]
PICTURES = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x80\x00\x00\x00\x00,\x00\x00\x00\x00"
    b"\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
EACH: list[tuple[str, object, object, str]] = [
    ("service_configuration", Conference(name="R", service_tag=""), Reject(), "action"),
    ("participant_properties", ParticipantProperties(spotlight=1), {"spotlight": 2}, "spotlight"),
    ("media_location", MediaLocation(location="Oslo"), {"location": "Bergen"}, "location"),
    ("participant_avatar", Avatar(PICTURES), Continue(), "image"),
    ("directory_information", Directory(entries=ENTRIES), ENTRIES[:1], "entries"),
    ("registration_alias", Credentials(username="u", password="p"), Reject(), "password"),
]


@pytest.mark.parametrize(("endpoint", "decision", "other", "changed"), EACH)
async def test_each_endpoint_has_its_hook(
    serving: Serve, endpoint: str, decision: object, other: object, changed: str
) -> None:
    async def change(given: Any) -> object:
        assert type(given) in ENDPOINTS[endpoint].decisions
        return other

    classes = {
        "decides": plugin(**{endpoint: always(decision)}),
        "adjusts": plugin(**{f"adjust_{endpoint}": change}),
    }
    async with serving(classes) as server:
        await server.ask(wire.TARGETS[endpoint])
        step = server.lines()[-1]["steps"][-1]
    assert (step["plugin"], step["outcome"]) == ("adjusts", "adjusted")
    assert changed in step["changes"]
    assert step["changes"].get("password", {}).get("from", REMOVED) == REMOVED


async def test_the_budget_is_that_of_the_whole_call(serving: Serve) -> None:
    classes = {
        "decides": plugin(media_location=always(MediaLocation(location="Oslo"))),
        "skips": plugin(adjust_media_location=always(Continue())),
        "guards": plugin(adjust_service_configuration=always(Continue())),
        "rooms": plugin(service_configuration=always(Conference(name="R", service_tag=""))),
    }
    tables = {"guards": {"on_error": "reject"}}
    times = iter(range(10**6))
    async with serving(
        classes, tables, server={"budget": 1}, clock=lambda: next(times) * 1.0
    ) as server:
        await server.ask(wire.LOCATION)
        assert server.steps() == [("decides", "decided"), ("skips", "skipped")]
        assert server.lines()[-1]["sent"] == {"location": "Oslo"}
        reply = await server.ask(wire.SERVICE)
        assert server.steps() == [("rooms", "decided"), ("guards", "skipped")]
        assert (reply.action, reply.json["decided_by"]) == ("reject", "guards")


async def test_the_circuit_breaker_of_an_adjuster_opens(serving: Serve) -> None:
    classes = {
        "rooms": plugin(service_configuration=always(Conference(name="R", service_tag=""))),
        "a": plugin(adjust_service_configuration=raises(ValueError("no database"))),
    }
    async with serving(classes, {"a": {"breaker": True}}) as server:
        for _ in range(6):
            assert (await server.ask(wire.SERVICE)).result["name"] == "R"
        assert server.steps()[-1] == ("a", "skipped")
        assert "circuit breaker is open" in server.details()
    assert [(e["plugin"], e["hook"]) for e in server.log.events if "opened" in e["event"]] == [
        ("a", "adjust_service_configuration")
    ]


@pytest.mark.parametrize("personal", ["hashed", "dropped"])
async def test_personal_values_are_masked_in_changes(
    serving: Serve, personal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIVACY_KEY", "0123456789abcdef")

    async def rename(decision: Any) -> object:
        return decision.replace(remote_display_name="Dana", spotlight=2)

    classes = {
        "role": plugin(participant_properties=always(ParticipantProperties(spotlight=1))),
        "names": plugin(adjust_participant_properties=rename),
    }
    privacy = {"personal": personal, "key_env": "PRIVACY_KEY"}
    if personal == "dropped":
        del privacy["key_env"]
    made = policy(classes, privacy=privacy)
    async with serving(made) as server:
        await server.ask(wire.PARTICIPANT)
    (line,) = server.lines()
    changes = line["steps"][-1]["changes"]
    assert changes["spotlight"] == {"from": 1, "to": 2}
    shown = changes["remote_display_name"]["to"]
    assert shown.startswith("hash:") if personal == "hashed" else shown == REMOVED
    assert "Dana" not in str(line)


def test_what_a_configuration_may_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be merged"):
        settings(endpoints={"media_location": {"combine": "merge"}})
    made = policy({"a": plugin(media_location=always(None))}, {"a": {"may_admit": True}})
    assert "plugins.a.may_admit: has no effect" in "\n".join(map(str, made.warnings))
