"""The result of a replay: how many records, what stays the same, and the groups of changes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pexpolicy.replay.records import Exactness, Unusable
from pexpolicy.testing.coverage import Coverage

MAX_PLACES = 20
"""Damaged places that are listed; all are counted."""
MAX_GROUPS = 2_000
"""Groups that are told apart by their reasons; further ones are not."""
VARIOUS = "(various)"
_LENGTH = re.compile(r" \(\d+ bytes\)|^\d+ bytes of ")
"""What differs in the reasons of damaged lines."""


class GroupKey(NamedTuple):
    """What the changes of a group have in common."""

    endpoint: str
    old_action: str
    new_action: str
    old_by: str
    old_reason: str
    new_by: str
    new_reason: str
    fields: tuple[str, ...]
    """The names of the changed fields, in alphabetical order."""


class Example(NamedTuple):
    """The first call of a group, without secrets."""

    place: str
    """File and line."""
    at: float | None
    decision_id: str
    url: str
    """Path and query."""
    changes: dict[str, dict[str, Any]]
    """Each changed field, ``from`` what ``to`` what."""
    missing: tuple[str, ...] = ()
    """Parameters that the record was written without."""
    peer: str | None = None
    """The address of the client."""


@dataclass(slots=True)
class Period:
    """The time from the first call to the last, in seconds since 1970."""

    first: float | None = None
    last: float | None = None

    def extend(self, at: float | None) -> None:
        """Include a time, if it is known."""
        if at is not None:
            self.first = at if self.first is None else min(self.first, at)
            self.last = at if self.last is None else max(self.last, at)


@dataclass(slots=True)
class Group(Period):
    """Calls whose answers change in the same way."""

    key: GroupKey = field(kw_only=True)
    example: Example = field(kw_only=True)
    count: int = 0
    partial: int = 0
    """Those whose records are not exact."""

    @property
    def is_unnoticed(self) -> bool:
        """True where only the plugin or the reason changes, which Infinity does not read."""
        return not {*self.key.fields} - {"decided_by", "reason"}


@dataclass(slots=True)
class Tally(Period):
    """The counts of the records so far."""

    records: Counter[Exactness] = field(default_factory=Counter)
    reasons: Counter[tuple[Exactness, str]] = field(default_factory=Counter)
    """Why records are partial, not replayable or unreadable."""
    places: list[tuple[str, str]] = field(default_factory=list)
    """The first unreadable places, each with what is wrong."""
    outside: int = 0
    """Records before the requested period."""
    same: int = 0
    changed: int = 0
    uncompared: int = 0
    """Calls that are compared with nothing, as their record has no reply."""
    matrix: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Calls by endpoint, old action and new action; the old one is empty if it is not known."""
    groups: dict[GroupKey, Group] = field(default_factory=dict)
    coverage: Coverage | None = None
    """What decided in the new configuration, if that is asked for."""

    def unusable(self, record: Unusable) -> None:
        """Count a record that is not replayed."""
        kind = record.exactness
        self.records[kind] += 1
        self.reasons[kind, _LENGTH.sub("", record.why)] += 1
        if kind is Exactness.UNREADABLE and len(self.places) < MAX_PLACES:
            self.places.append((record.place, record.why))

    def change(self, key: GroupKey, example: Example, *, partial: bool) -> None:
        """Count a call whose answer changes."""
        self.changed += 1
        if key not in self.groups and len(self.groups) >= MAX_GROUPS:
            key = key._replace(old_reason=VARIOUS, new_reason=VARIOUS)
        group = self.groups.setdefault(key, Group(key=key, example=example))
        group.count += 1
        group.partial += partial
        group.extend(example.at)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """A finished replay."""

    config: str
    against: str
    """The other configuration or server; empty where the records themselves are the other side."""
    files: tuple[tuple[str, str], ...]
    """Each file with the form of its records."""
    tally: Tally
    groups: tuple[Group, ...]
    """The selected groups of changes, the largest first."""
    remarks: tuple[str, ...]
    """What the figures do not include."""
    seconds: float

    @property
    def compared(self) -> int:
        """Return the number of calls with two answers."""
        return self.tally.same + self.tally.changed

    @property
    def selected(self) -> int:
        """Return the number of calls in the selected groups."""
        return sum(group.count for group in self.groups)

    @property
    def share(self) -> float:
        """Return the part of the compared calls that changes in a selected way, 0 to 1."""
        return self.selected / self.compared if self.compared else 0.0


def ordered(groups: Iterable[Group], only: Iterable[str] = ()) -> tuple[Group, ...]:
    """Return the groups with all of these actions, endpoints and plugins, the largest first."""
    wanted = tuple(only)
    chosen = [group for group in groups if all(_has(group.key, word) for word in wanted)]
    return tuple(sorted(chosen, key=lambda group: (-group.count, group.key)))


def _has(key: GroupKey, word: str) -> bool:
    return word in (key.endpoint, key.old_by, key.new_by, *key.fields) or any(
        action.startswith(word) for action in (key.old_action, key.new_action)
    )
