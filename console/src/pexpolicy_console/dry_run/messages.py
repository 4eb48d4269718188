"""Questions to the process of the dry runs, and its answers, as lines of JSON."""

from __future__ import annotations

from typing import Any

import msgspec


class Explain(msgspec.Struct, tag="explain", frozen=True):
    """Answer one request, as ``pexpolicy explain`` does."""

    request: str
    """An alias, a decision ID, a path with its query, or a line of a log."""
    endpoint: str | None = None
    """What to ask about an alias."""
    shape: str = ""
    """The kind of call for an alias with an endpoint, such as ``sip``."""
    changes: dict[str, list[str]] = {}
    """Other values of parameters."""
    at: str | None = None
    """The time, as in ``--at``."""
    ask_all: bool = False
    """Ask the plugins after the decision too."""


class LookUp(msgspec.Struct, tag="look_up", frozen=True):
    """Ask each endpoint about one alias."""

    alias: str
    at: str | None = None


class ListRooms(msgspec.Struct, tag="list_rooms", frozen=True):
    """List the rooms; ``text`` is part of an alias or a name."""

    text: str = ""
    skip: int = 0
    limit: int = 100
    hides_personal: bool = False
    """Apply ``[privacy]`` to aliases and fields; ``text`` is then a name or a whole alias."""


class ListRules(msgspec.Struct, tag="list_rules", frozen=True):
    """List the rules of all plugins."""

    hides_personal: bool = False


class CheckFile(msgspec.Struct, tag="check", frozen=True):
    """Check the configuration on the disk. ``active_hash`` is that of the server."""

    active_hash: str = ""


Question = Explain | LookUp | ListRooms | ListRules | CheckFile


class Step(msgspec.Struct, frozen=True):
    """One plugin that was asked."""

    plugin: str
    outcome: str
    ms: float
    hook: str = ""
    detail: str = ""
    fields: list[str] = []
    changes: dict[str, Any] = {}
    would: str | None = None
    """What a plugin after the decision would have decided."""


class Walk(msgspec.Struct, frozen=True):
    """The answer to one request, and each step on the way; secrets are removed."""

    endpoint: str
    request: dict[str, Any]
    steps: list[Step]
    decided_by: str
    action: str
    reply: Any = None
    at: str | None = None
    form: str = ""
    reason: str | None = None
    not_shown: list[str] = []
    remarks: list[str] = []
    not_asked: list[Step] = []
    notes: list[str] = []
    warnings: list[str] = []
    annotations: dict[str, Any] = {}
    path_problem: str | None = None
    status: int = 200
    content_type: str = ""
    bytes: int = 0
    removed: list[str] = []
    place: str = ""
    """Where the decision is written, such as ``rooms.csv line 3``; empty if unknown."""


class Found(msgspec.Struct, frozen=True):
    """What is known of one alias."""

    alias: str
    walks: list[Walk]
    places: list[str]
    """The lines of the configuration and of its tables that name the alias or its domain."""


class Room(msgspec.Struct, frozen=True):
    """One alias, and the room that it leads to; secrets are removed."""

    plugin: str
    alias: str
    name: str
    service_type: str
    place: str
    valid: str = ""
    """When it exists; empty for always."""
    fields: dict[str, Any] = {}


class Rooms(msgspec.Struct, frozen=True):
    """A part of the rooms, and their number."""

    rooms: list[Room]
    total: int
    matching: int


class Rule(msgspec.Struct, frozen=True):
    """One rule. ``findings`` say why it never decides, or what it overlaps with."""

    plugin: str
    number: int
    name: str
    endpoints: list[str]
    condition: str
    actions: list[str]
    place: str
    findings: list[str] = []


class Rules(msgspec.Struct, frozen=True):
    """The rules in their order."""

    rules: list[Rule]


class FileCheck(msgspec.Struct, frozen=True):
    """The state of the configuration on the disk."""

    config_hash: str
    problems: list[str] = []
    warnings: list[str] = []
    changes: list[str] | None = None
    """What differs from the active configuration; ``None`` if that is unknown."""


class Failed(msgspec.Struct, frozen=True):
    """Why a question has no answer: one line for each reason."""

    failures: list[str]
