"""Rows about adjusting and merging plugins, and the check of one on the wire."""

import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from pexpolicy.builder import build_policy
from pexpolicy.policy import BuildContext
from tests.support import wire
from tests.support.adjusting_plugins import sources
from tests.support.fake_plugins import Log, Serve, settings

Table = dict[str, Any]
REMOVED = "***"
THEME = {"ivr_theme_name": {"from": "Oslo", "to": "Bergen"}}
PLAIN = {"description": {"from": "Third floor"}}
LOCK = {"locked": {"to": True}, "reason": {"to": "after hours"}}
CLOSED = {"action": "reject", "by": "rooms", "reason": "closed"}


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


TABLES: dict[str, Table] = {
    "brief": {"timeout": 0.05},
    "may": {"may_admit": True},
    "process": {"isolation": "process", "processes": 1},
    "shadow": {"mode": "shadow"},
    "strict": {"on_error": "reject"},
}


def row(about: str, steps: str, **expected: Any) -> Row:
    """Read plugins such as `b=room+10 a~open+may c=Both:room`, and the steps after an arrow.

    With `=` a plugin decides, with `~` it adjusts, with `!` it restricts, unless another kind is
    named; tables or a priority follow.
    """
    plugins, _, steps = steps.partition(" -> ")
    given = {}
    for word in plugins.split():
        name, kind, value = re.split("([=~!])", word, maxsplit=1)
        what, *tables = value.split("+")
        if ":" not in what:
            what = f"{ {'=': 'Decides', '~': 'Adjusts', '!': 'Restricts'}[kind] }:{what}"
        table: Table = {}
        for key in filter(None, tables):
            table |= TABLES.get(key) or {"priority": int(key)}
        given[name] = what, table
    return Row(about, given, steps, **expected)


KEPT = {"ivr_theme_name": "Oslo", "name": "Board"}
IMMEDIATE = {
    "waiting": {},
    "immediate": {"Decides": "DecidesNow", "Adjusts": "AdjustsNow", "Restricts": "RestrictsNow"},
    "immediate adjusters": {"Adjusts": "AdjustsNow"},
}
"""The kinds of plugins instead of those that may wait, and so have tasks of their own."""


def cases(*rows: Row) -> list[Any]:
    """Return the rows with each kind of plugins, with names."""
    return [
        pytest.param(row, kinds, id=f"{row} ({name})")
        for row in rows
        for name, kinds in IMMEDIATE.items()
        if not kinds
        or not any("late" in what or "isolation" in t for what, t in row.plugins.values())
    ]


async def check(serving: Serve, row: Row, instead: dict[str, str]) -> None:
    """Check what is sent and written for a row, with other kinds of plugins ``instead``."""
    endpoint = "participant_properties" if row.participant else "service_configuration"
    kinds, tables = {}, {}
    for name, (what, table) in row.plugins.items():
        kind, _, do = what.partition(":")
        kinds[name] = instead.get(kind, kind)
        tables[name] = {**table, "settings": {"do": do}}
    combine = {"combine": "merge"} if row.merge else {}
    made = build_policy(
        settings(
            tables,
            infinity={"themes": ["Oslo", "Bergen"]},
            endpoints={endpoint: {"default": row.default, **combine}},
        ),
        available=sources(kinds),
        context=BuildContext(log=Log()),
    )
    async with serving(made) as server:
        reply = await server.ask(wire.TARGETS[endpoint])
        while row.shadow is not None and len(server.lines()) < 2:
            await server.ask("/livez")
    line, *shadows = server.lines()
    assert (reply.status, reply.action) == (200, row.action)
    assert reply.json["decided_by"] == row.by
    assert reply.json.get("reason") == row.reason
    if row.action == "reject":
        assert reply.result is None
    for name, value in (row.sent or {}).items():
        assert reply.result.get(name) == value, name
    _check_line(row, line, reply)
    if row.shadow is not None:
        _check_shadow(row.shadow, shadows[0], line)


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
    for step in adjusting:
        does = "restrict" if row.plugins[step["plugin"]][0].startswith("Restricts") else "adjust"
        assert step["hook"] == f"{does}_{line['endpoint']}"
    if line["sent"] is not None and reply.result is not None:
        shown = {**reply.result, **({"pin": REMOVED} if "pin" in reply.result else {})}
        assert line["sent"] == shown


def _check_shadow(expected: Table, shadow: Table, line: Table) -> None:
    assert shadow["event"] == "shadow"
    assert shadow["decision_id"] == line["decision_id"]
    for name in ("differs", "decided_by"):
        assert shadow[name] == expected[name]
    if "changes" in expected:
        assert [step["changes"] for step in shadow["steps"]] == [expected["changes"]]
        assert shadow["would_send"]["ivr_theme_name"] == expected["theme"]
