"""Adjusting and merging on the wire: who is asked, what is sent, and what its audit line says."""

from dataclasses import dataclass, field
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
from pexpolicy.builder import build_policy
from pexpolicy.config.settings import ConfigError
from pexpolicy.endpoints import ENDPOINTS
from tests.support import wire
from tests.support.adjusting_plugins import sources
from tests.support.fake_plugins import Log, Serve, always, plugin, policy, raises, settings
from tests.support.secret_canaries import PIN

Table = dict[str, Any]
REMOVED = "***"
THEME = {"ivr_theme_name": {"from": "Oslo", "to": "Bergen"}}
PLAIN = {"description": {"from": "Third floor"}}
LOCK = {"locked": {"to": True}, "reason": {"to": "after hours"}}
CLOSED = {"action": "reject", "by": "rooms", "reason": "closed"}
NO_TIME = {"timeout": 0.05}


@dataclass(frozen=True)
class Row:
    """Plugins as `kind:what`, with their tables, and what follows."""

    about: str
    plugins: dict[str, tuple[str, Table]]
    steps: str
    """Plugin and outcome of each step, in order."""
    sent: Table | None = None
    """Fields of the result, and `None` for those that are missing."""
    changes: dict[str, Any] = field(default_factory=dict)
    """The changes of each adjusted step, by plugin."""
    fields: dict[str, list[str]] = field(default_factory=dict)
    """The fields that plugins gave to a merged decision."""
    action: str = "continue"
    by: str = "rooms"
    reason: str | None = None
    detail: str = ""
    participant: bool = False
    merge: bool = False
    default: str = "continue"
    shadow: Table | None = None
    """What the line of the shadow has."""

    def __str__(self) -> str:
        return self.about


def row(
    about: str, plugins: dict[str, str | tuple[str, Table]], steps: str, **expected: Any
) -> Row:
    given = {name: (p, {}) if isinstance(p, str) else p for name, p in plugins.items()}
    return Row(about, given, steps, **expected)


ROOM = "Decides:room"
REJECT = "Decides:reject"
SKIP: Table = {}
STRICT: Table = {"on_error": "reject"}
MAY: Table = {"may_admit": True}
PROCESS: Table = {"isolation": "process", "processes": 1}
SHADOW: Table = {"mode": "shadow"}
KEPT = {"ivr_theme_name": "Oslo", "name": "Board"}

ORDER = [
    row(
        "an adjuster changes one field and the others stay",
        {"rooms": ROOM, "banner": "Adjusts:bergen"},
        "rooms decided, banner adjusted",
        sent={"ivr_theme_name": "Bergen", "name": "Board", "description": "Third floor"},
        changes={"banner": THEME},
    ),
    row(
        "the lower priority adjusts first, and the next one gets its result",
        {
            "late": ("Adjusts:plain", {"priority": 20}),
            "early": ("Adjusts:bergen", {"priority": 10}),
            "rooms": (ROOM, {"priority": 30}),
        },
        "rooms decided, early adjusted, late adjusted",
        sent={"ivr_theme_name": "Bergen", "description": None},
        changes={"early": THEME, "late": PLAIN},
    ),
    row(
        "the last of two values is sent",
        {"rooms": ROOM, "a": "Adjusts:bergen", "b": "Adjusts:table", "c": "Adjusts:lock"},
        "rooms decided, a adjusted, b adjusted, c adjusted",
        sent={"ivr_theme_name": "Bergen", "view": "one_main_zero_pips", "locked": True},
        changes={"a": THEME, "b": {"view": {"to": "one_main_zero_pips"}}, "c": LOCK},
        reason="after hours",
    ),
    row(
        "an adjuster that abstains changes nothing",
        {"rooms": ROOM, "a": "Adjusts:none", "b": "Adjusts:plain"},
        "rooms decided, a abstained, b adjusted",
        sent={"description": None},
        changes={"b": PLAIN},
    ),
    row(
        "the decision as it was given counts as an abstention",
        {"rooms": ROOM, "a": "Adjusts:same"},
        "rooms decided, a abstained",
        sent=KEPT,
    ),
    row(
        "an equal decision changes nothing",
        {"rooms": ROOM, "a": "Adjusts:bergen", "b": "Adjusts:bergen"},
        "rooms decided, a adjusted, b adjusted",
        sent={"ivr_theme_name": "Bergen"},
        changes={"a": THEME, "b": {}},
    ),
    row(
        "a plugin adjusts its own decision",
        {"rooms": "Both:room"},
        "rooms decided, rooms adjusted",
        sent={"description": None},
        changes={"rooms": PLAIN},
    ),
    row(
        "an adjuster blocks in a thread and leaves out the request",
        {"rooms": ROOM, "a": "Blocks:bergen"},
        "rooms decided, a adjusted",
        sent={"ivr_theme_name": "Bergen"},
        changes={"a": THEME},
    ),
    row(
        "plugins after the one that decided are asked to adjust only",
        {"rooms": ROOM, "more": "Both:room"},
        "rooms decided, more adjusted",
        sent={"description": None},
        changes={"more": PLAIN},
    ),
    row(
        "a default that nobody decided is not adjusted",
        {"rooms": "Decides:abstain", "a": "Adjusts:admit"},
        "rooms abstained",
        sent=None,
        by="default",
    ),
    row(
        "a default that rejects is not adjusted",
        {"rooms": "Decides:abstain", "a": ("Adjusts:admit", MAY)},
        "rooms abstained",
        by="default",
        action="reject",
        default="reject",
        reason="no plugin decided",
    ),
    row(
        "a continue is a decision, and may become a room",
        {"rooms": "Decides:continue", "a": "Adjusts:admit"},
        "rooms decided, a adjusted",
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
REJECTS = [
    row(
        "an adjuster rejects: the reject is its own",
        {"rooms": "Decides:redirect", "a": "Adjusts:reject"},
        "rooms decided, a adjusted",
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
        {"rooms": REJECT, "a": "Adjusts:admit"},
        "rooms decided, a invalid",
        **CLOSED,
        detail="turns a reject into an admission: write may_admit = true",
    ),
    row(
        "nor into a continue",
        {"rooms": REJECT, "a": "Adjusts:leave"},
        "rooms decided, a invalid",
        **CLOSED,
        detail="may_admit",
    ),
    row(
        "nor into a redirect",
        {"rooms": REJECT, "a": "Adjusts:redirect"},
        "rooms decided, a invalid",
        **CLOSED,
        detail="may_admit",
    ),
    row(
        "the reject stays with on_error = reject as well, as it was",
        {"rooms": REJECT, "a": ("Adjusts:admit", STRICT), "b": ("Adjusts:admit", MAY)},
        "rooms decided, a invalid",
        **CLOSED,
        detail="may_admit",
    ),
    row(
        "may_admit admits",
        {"rooms": REJECT, "a": ("Adjusts:leave", MAY)},
        "rooms decided, a adjusted",
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
        {"rooms": REJECT, "a": ("Adjusts:none", MAY), "b": "Adjusts:leave"},
        "rooms decided, a abstained, b invalid",
        **CLOSED,
        detail="may_admit",
    ),
    row(
        "a reject may get another reason",
        {"rooms": REJECT, "a": "Adjusts:other_reason"},
        "rooms decided, a adjusted",
        action="reject",
        reason="closed today",
        changes={"a": {"reason": {"from": "closed", "to": "closed today"}}},
    ),
    row(
        "a reject after an admission stays for those that follow",
        {"rooms": "Decides:redirect", "a": "Adjusts:reject", "b": "Adjusts:admit"},
        "rooms decided, a adjusted, b invalid",
        action="reject",
        by="a",
        reason="full",
        detail="may_admit",
    ),
    row(
        "the reject of a failed plugin is not adjusted",
        {"rooms": ("Decides:fail", STRICT), "a": ("Adjusts:leave", MAY)},
        "rooms failed",
        action="reject",
        reason="rooms failed, and its on_error is reject",
        detail="no database",
    ),
    row(
        "no PIN is removed",
        {"rooms": ROOM, "a": "Adjusts:open"},
        "rooms decided, a invalid",
        sent=KEPT,
        detail="removes pin, which protects the call",
    ),
    row(
        "nor emptied",
        {"rooms": ROOM, "a": "Adjusts:blank"},
        "rooms decided, a invalid",
        sent=KEPT,
        detail="removes pin",
    ),
    row(
        "nor left to Infinity",
        {"rooms": ROOM, "a": "Adjusts:leave"},
        "rooms decided, a invalid",
        sent=KEPT,
        detail="removes pin",
    ),
    row(
        "nor removed by two adjusters in turn",
        {"rooms": ROOM, "a": "Adjusts:redirect", "b": "Adjusts:leave"},
        "rooms decided, a adjusted, b invalid",
        action="redirect",
        by="a",
        detail="removes pin",
    ),
    row(
        "what one adjuster may remove is gone for those that follow",
        {"rooms": ROOM, "a": ("Adjusts:open", MAY), "b": "Adjusts:bergen"},
        "rooms decided, a adjusted, b adjusted",
        sent={"pin": None, "ivr_theme_name": "Bergen"},
        changes={"a": {"pin": {"from": REMOVED}}, "b": THEME},
    ),
    row(
        "may_admit removes a PIN, and the line does not show it",
        {"rooms": ROOM, "a": ("Adjusts:open", MAY)},
        "rooms decided, a adjusted",
        sent={"pin": None, "name": "Board"},
        changes={"a": {"pin": {"from": REMOVED}}},
    ),
    row(
        "a PIN is replaced, and the line does not show it",
        {"rooms": ROOM, "a": "Adjusts:repin"},
        "rooms decided, a adjusted",
        sent={"pin": PIN[::-1]},
        changes={"a": {"pin": {"from": REMOVED, "to": REMOVED}}},
    ),
]


def failing(what: str, outcome: str, detail: str, table: Table) -> list[Row]:
    """Return the rows of one failure: the decision stays, or the call is rejected."""
    reason = {"failed": "failed", "timed_out": "was late", "invalid": "gave an invalid answer"}
    return [
        row(
            f"an adjuster that is {what} changes nothing",
            {"rooms": ROOM, "a": (f"Adjusts:{what}", table), "b": "Adjusts:plain"},
            f"rooms decided, a {outcome}, b adjusted",
            sent={"ivr_theme_name": "Oslo", "description": None},
            changes={"b": PLAIN},
            detail=detail,
        ),
        row(
            f"an adjuster that is {what} rejects with on_error = reject",
            {"rooms": ROOM, "a": (f"Adjusts:{what}", {**table, **STRICT}), "b": "Adjusts:plain"},
            f"rooms decided, a {outcome}",
            action="reject",
            by="a",
            reason=f"a {reason[outcome]}, and its on_error is reject",
            detail=detail,
        ),
    ]


FAILURES = [
    *failing("fail", "failed", "no database", {}),
    *failing("late", "timed_out", "no answer within 0.05 s", NO_TIME),
    *failing("nonsense", "invalid", "is not a decision of service_configuration", {}),
    *failing("wrong", "invalid", "Conference.name: is required", {}),
    *failing("unlisted", "invalid", "not listed under [infinity] themes", {}),
    *failing("forge", "invalid", "was changed after it was checked", {}),
    row(
        "a thread that is late changes nothing",
        {"rooms": ROOM, "a": ("Blocks:late", NO_TIME)},
        "rooms decided, a timed_out",
        sent=KEPT,
        detail="no answer within 0.05 s",
    ),
    row(
        "a decision that is forged in place rejects the call",
        {"rooms": "Decides:fresh", "a": "Adjusts:tamper"},
        "rooms decided, a abstained",
        action="reject",
        reason="the decision of rooms was changed meanwhile",
    ),
    row(
        "an adjuster that changes fields of another class is invalid",
        {"rooms": "Decides:continue", "a": "Adjusts:bergen"},
        "rooms decided, a invalid",
        reason="not ours",
        detail="there is no field 'ivr_theme_name'",
    ),
]
ISOLATED = [
    row(
        "in a process: a field is changed",
        {"rooms": ROOM, "a": ("Adjusts:bergen", PROCESS), "b": "Adjusts:plain"},
        "rooms decided, a adjusted, b adjusted",
        sent={"ivr_theme_name": "Bergen", "description": None},
        changes={"a": THEME, "b": PLAIN},
    ),
    row(
        "in a process: a PIN is replaced",
        {"rooms": (ROOM, PROCESS), "a": ("Adjusts:repin", PROCESS)},
        "rooms decided, a adjusted",
        sent={"pin": PIN[::-1]},
        changes={"a": {"pin": {"from": REMOVED, "to": REMOVED}}},
    ),
    row(
        "in a process: a reject is not adjusted into an admission",
        {"rooms": REJECT, "a": ("Adjusts:leave", PROCESS)},
        "rooms decided, a invalid",
        **CLOSED,
        detail="may_admit",
    ),
    row(
        "in a process: may_admit admits",
        {"rooms": REJECT, "a": ("Adjusts:leave", {**PROCESS, **MAY})},
        "rooms decided, a adjusted",
        by="a",
        reason="left to Infinity",
    ),
    row(
        "in a process: late, and its on_error rejects",
        {"rooms": ROOM, "a": ("Adjusts:late", {**PROCESS, **NO_TIME, **STRICT})},
        "rooms decided, a timed_out",
        action="reject",
        by="a",
        reason="a was late, and its on_error is reject",
        detail="no answer within 0.05 s",
    ),
    row(
        "in a process, the decision as it was given counts as an abstention",
        {"rooms": ROOM, "a": ("Adjusts:same", PROCESS)},
        "rooms decided, a abstained",
        sent=KEPT,
    ),
    row(
        "in a process: wrong, and skipped",
        {"rooms": ROOM, "a": ("Adjusts:wrong", PROCESS)},
        "rooms decided, a invalid",
        sent=KEPT,
        detail="Conference.name: is required",
    ),
    row(
        "in a process: a thread adjusts",
        {"rooms": ROOM, "a": ("Blocks:bergen", PROCESS)},
        "rooms decided, a adjusted",
        sent={"ivr_theme_name": "Bergen"},
        changes={"a": THEME},
    ),
]
SHADOWS = [
    row(
        "a shadow adjusts nothing, and its line says what it would",
        {"rooms": ROOM, "a": ("Adjusts:bergen", SHADOW)},
        "rooms decided",
        sent=KEPT,
        shadow={"differs": True, "decided_by": "rooms", "changes": THEME, "theme": "Bergen"},
    ),
    row(
        "a shadow is given the adjusted decision",
        {"rooms": ROOM, "a": ("Adjusts:bergen", SHADOW), "b": "Adjusts:bergen"},
        "rooms decided, b adjusted",
        sent={"ivr_theme_name": "Bergen"},
        shadow={"differs": False, "decided_by": "rooms", "changes": {}, "theme": "Bergen"},
    ),
    row(
        "a shadow that fails differs in nothing that is known",
        {"rooms": ROOM, "a": ("Adjusts:fail", {**SHADOW, **STRICT})},
        "rooms decided",
        sent=KEPT,
        shadow={"differs": None, "decided_by": "a"},
    ),
    row(
        "a shadow in a process is asked after the reply as well",
        {"rooms": ROOM, "a": ("Adjusts:bergen", {**SHADOW, **PROCESS})},
        "rooms decided",
        sent=KEPT,
        shadow={"differs": True, "decided_by": "rooms", "changes": THEME, "theme": "Bergen"},
    ),
    row(
        "a shadow that may not admit is invalid too",
        {"rooms": REJECT, "a": ("Adjusts:admit", SHADOW)},
        "rooms decided",
        **CLOSED,
        shadow={"differs": None, "decided_by": "rooms"},
    ),
]
MERGED: Table = {"participant": True, "merge": True, "by": "role"}
BOTH = {"preauthenticated_role": "chair", "spotlight": 1, "remote_display_name": "Dana"}
ROLE_FIELDS = ["preauthenticated_role", "spotlight"]
MERGES = [
    row(
        "without combine the first decision is the reply",
        {"role": "Decides:role", "names": "Decides:name"},
        "role decided",
        participant=True,
        by="role",
        sent={"spotlight": 1, "remote_display_name": None},
    ),
    row(
        "merge asks all, and the first value of a field wins",
        {"role": "Decides:role", "names": "Decides:name"},
        "role decided, names decided",
        **MERGED,
        sent=BOTH,
        fields={"role": ROLE_FIELDS, "names": ["remote_display_name"]},
    ),
    row(
        "the priority says which value is the first",
        {"role": ("Decides:role", {"priority": 20}), "names": ("Decides:name", {"priority": 10})},
        "names decided, role decided",
        **{**MERGED, "by": "names"},
        sent={**BOTH, "spotlight": 2},
        fields={"names": ["remote_display_name", "spotlight"], "role": ["preauthenticated_role"]},
    ),
    row(
        "a dictionary is merged, and a plugin that abstains or continues gives nothing",
        {
            "ours": "Decides:continue",
            "none": "Decides:abstain",
            "role": "Decides:role",
            "tags": "Decides:table",
        },
        "ours decided, none abstained, role decided, tags decided",
        **MERGED,
        sent={"preauthenticated_role": "chair", "call_tag": "vip"},
        fields={"ours": [], "role": ROLE_FIELDS, "tags": ["call_tag"]},
    ),
    row(
        "a continue alone is a continue",
        {"ours": "Decides:continue", "none": "Decides:abstain"},
        "ours decided, none abstained",
        **{**MERGED, "by": "ours"},
        reason="not ours",
    ),
    row(
        "a plugin whose fields are all given already gives none",
        {"role": "Decides:role", "again": "Decides:role"},
        "role decided, again decided",
        **MERGED,
        sent={"spotlight": 1},
        fields={"role": ROLE_FIELDS, "again": []},
    ),
    row(
        "nobody decides: the default",
        {"a": "Decides:abstain", "b": "Decides:abstain"},
        "a abstained, b abstained",
        **{**MERGED, "by": "default"},
    ),
    row(
        "any reject ends it",
        {"role": "Decides:role", "stops": REJECT, "names": "Decides:name"},
        "role decided, stops decided",
        **{**MERGED, "by": "stops"},
        action="reject",
        reason="closed",
    ),
    row(
        "a plugin that fails is left out",
        {"role": "Decides:role", "bad": "Decides:fail", "names": "Decides:name"},
        "role decided, bad failed, names decided",
        **MERGED,
        sent=BOTH,
        detail="no database",
    ),
    row(
        "a plugin that is late and has on_error = reject rejects",
        {"role": "Decides:role", "bad": ("Decides:late", {**NO_TIME, **STRICT})},
        "role decided, bad timed_out",
        **{**MERGED, "by": "bad"},
        action="reject",
        reason="bad was late, and its on_error is reject",
        detail="no answer",
    ),
    row(
        "an invalid part is left out",
        {"role": "Decides:role", "bad": "Decides:nonsense", "names": "Decides:name"},
        "role decided, bad invalid, names decided",
        **MERGED,
        sent=BOTH,
        detail="is not a decision of participant_properties",
    ),
    row(
        "parts from processes are merged",
        {"role": ("Decides:role", PROCESS), "names": ("Decides:name", PROCESS)},
        "role decided, names decided",
        **MERGED,
        sent=BOTH,
        fields={"role": ROLE_FIELDS, "names": ["remote_display_name"]},
    ),
    row(
        "a merged decision is adjusted",
        {"role": "Decides:role", "names": "Decides:name", "a": "Adjusts:rename"},
        "role decided, names decided, a adjusted",
        **MERGED,
        sent={**BOTH, "remote_display_name": "Guest"},
        changes={"a": {"remote_display_name": {"from": "Dana", "to": "Guest"}}},
    ),
    row(
        "a reject among merged decisions stays",
        {"role": "Decides:role", "stops": REJECT, "a": "Adjusts:leave"},
        "role decided, stops decided, a invalid",
        **{**MERGED, "by": "stops"},
        action="reject",
        reason="closed",
        detail="may_admit",
    ),
    row(
        "a shadow would give another field",
        {"role": "Decides:role", "names": ("Decides:name", SHADOW)},
        "role decided",
        **MERGED,
        sent={"spotlight": 1},
        shadow={"differs": True, "decided_by": "names"},
    ),
    row(
        "a shadow would give nothing new",
        {"role": "Decides:role", "same": ("Decides:role", SHADOW)},
        "role decided",
        **MERGED,
        sent={"spotlight": 1},
        shadow={"differs": False, "decided_by": "same"},
    ),
]
ROWS = [*ORDER, *REJECTS, *FAILURES, *ISOLATED, *SHADOWS, *MERGES]


def test_the_table_is_as_long_as_it_has_to_be() -> None:
    assert len(ROWS) >= 60
    assert len({row.about for row in ROWS}) == len(ROWS)


IMMEDIATE = {
    "waiting": {},
    "immediate": {"Decides": "DecidesNow", "Adjusts": "AdjustsNow"},
    "immediate adjusters": {"Adjusts": "AdjustsNow"},
}
"""The kinds of plugins instead of those that may wait, and so have tasks of their own."""
CASES = [
    pytest.param(row, kinds, id=f"{row} ({name})")
    for row in ROWS
    for name, kinds in IMMEDIATE.items()
    if not kinds or not any("late" in what or "isolation" in t for what, t in row.plugins.values())
]


@pytest.mark.parametrize(("row", "instead"), CASES)
async def test_on_the_wire(serving: Serve, row: Row, instead: dict[str, str]) -> None:
    endpoint = "participant_properties" if row.participant else "service_configuration"
    kinds = {
        name: instead.get(what.partition(":")[0], what.partition(":")[0])
        for name, (what, _) in row.plugins.items()
    }
    tables = {
        name: {**table, "settings": {"do": what.partition(":")[2]}}
        for name, (what, table) in row.plugins.items()
    }
    combine = {"combine": "merge"} if row.merge else {}
    made = build_policy(
        settings(
            tables,
            infinity={"themes": ["Oslo", "Bergen"]},
            endpoints={endpoint: {"default": row.default, **combine}},
        ),
        available=sources(kinds),
        log=Log(),
    )
    async with serving(made) as server:
        reply = await server.ask(wire.TARGETS[endpoint])
        while row.shadow is not None and len(server.lines()) < 2:
            await server.ask("/livez")
    line, *shadows = server.lines()
    _check_reply(row, reply)
    _check_line(row, line, reply)
    if row.shadow is not None:
        _check_shadow(row.shadow, shadows[0], line)


def _check_reply(row: Row, reply: wire.Reply) -> None:
    assert (reply.status, reply.action) == (200, row.action)
    assert reply.json["decided_by"] == row.by
    assert reply.json.get("reason") == row.reason
    if row.action == "reject":
        assert reply.result is None
    for name, value in (row.sent or {}).items():
        assert reply.result.get(name) == value, name


def _check_line(row: Row, line: Table, reply: wire.Reply) -> None:
    steps = line["steps"]
    assert ", ".join(f"{step['plugin']} {step['outcome']}" for step in steps) == row.steps
    assert (line["action"], line["decided_by"], line["reason"]) == (row.action, row.by, row.reason)
    assert line["decision_id"] == reply.json["decision_id"]
    adjusted = {s["plugin"]: s["changes"] for s in steps if s["outcome"] == "adjusted"}
    assert row.changes.items() <= adjusted.items()
    given = {step["plugin"]: step.get("fields", []) for step in steps}
    for name, fields in row.fields.items():
        assert sorted(given[name]) == sorted(fields)
    assert row.detail in " ".join(step.get("detail", "") for step in steps)
    after = [step for step in steps if step["outcome"] == "decided"][-1:]
    adjusting = steps[steps.index(after[0]) + 1 :] if after and not row.merge else []
    assert all(step["hook"] == f"adjust_{line['endpoint']}" for step in adjusting)
    if line["sent"] is not None and reply.result is not None:
        shown = {**reply.result, **({"pin": REMOVED} if "pin" in reply.result else {})}
        assert line["sent"] == shown


def _check_shadow(expected: Table, shadow: Table, line: Table) -> None:
    assert shadow["event"] == "shadow"
    assert shadow["decision_id"] == line["decision_id"]
    assert (shadow["differs"], shadow["decided_by"]) == (
        expected["differs"],
        expected["decided_by"],
    )
    if "changes" in expected:
        assert [step["changes"] for step in shadow["steps"]] == [expected["changes"]]
        assert shadow["would_send"]["ivr_theme_name"] == expected["theme"]


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
    async with serving(classes, {"a": {"breaker": {"failures": 2}}}) as server:
        for _ in range(3):
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


def test_what_a_configuration_may_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="only participant_properties can be merged"):
        settings(endpoints={"media_location": {"combine": "merge"}})
    made = policy({"a": plugin(media_location=always(None))}, {"a": {"may_admit": True}})
    assert "plugins.a.may_admit: has no effect" in "\n".join(map(str, made.warnings))


def test_adjusters_of_one_priority_are_warned_of() -> None:
    hook = always(None)
    made = policy({name: plugin(adjust_media_location=hook) for name in "ab"})
    assert "plugins.b.priority: a has priority 100 too" in "\n".join(map(str, made.warnings))
