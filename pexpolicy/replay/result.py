"""The result of a replay: how many records, what stays the same, and the groups of changes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pexpolicy.replay.records import Exactness
from pexpolicy.testing.coverage import CoverageItem

MAX_PLACES = 20
"""Damaged places that are listed; all are counted."""
MAX_GROUPS = 2_000
"""Groups that are told apart by their reasons; further ones are not."""
MAX_VERDICTS = 200
"""Verdicts about the output of scripts that are told apart."""
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

    def extend(self, *times: float | None) -> None:
        """Include the times that are known."""
        for at in times:
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

    def add(self, at: float | None, *, partial: bool) -> None:
        """Count one call."""
        self.count += 1
        self.partial += partial
        self.extend(at)

    def merge(self, other: Group) -> None:
        """Add the calls of another group that come after those of this one."""
        self.count += other.count
        self.partial += other.partial
        self.extend(other.first, other.last)

    @property
    def is_unnoticed(self) -> bool:
        """True where only the plugin or the reason changes, which Infinity does not read."""
        return not {*self.key.fields} - {"decided_by", "reason"}


@dataclass(slots=True)
class Tally(Period):
    """The counts of some records; those of consecutive records can be merged."""

    records: Counter[Exactness] = field(default_factory=Counter)
    reasons: Counter[tuple[Exactness, str]] = field(default_factory=Counter)
    """Why records are partial, not replayable or unreadable."""
    places: list[tuple[str, str]] = field(default_factory=list)
    """The first unreadable places, each with what is wrong."""
    outside: int = 0
    """Records before or after the requested period."""
    same: int = 0
    changed: int = 0
    uncompared: int = 0
    """Calls that are compared with nothing, as their record has no reply."""
    matrix: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Calls by endpoint, old action and new action; the old one is empty if it is not known."""
    groups: dict[GroupKey, Group] = field(default_factory=dict)
    steps: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Steps of the new configuration by plugin, hook and outcome, with coverage."""
    verdicts: Counter[str] = field(default_factory=Counter)
    """What the node made of the output of its script."""
    used: Counter[CoverageItem] = field(default_factory=Counter)
    """Decisions of each item, with coverage."""
    items: tuple[CoverageItem, ...] = ()
    """All items of the new configuration; those of the first block are those of all."""

    def unusable(self, exactness: Exactness, why: str, place: str) -> None:
        """Count a record that is not replayed."""
        self.records[exactness] += 1
        self.reasons[exactness, _LENGTH.sub("", why)] += 1
        if exactness is Exactness.UNREADABLE and len(self.places) < MAX_PLACES:
            self.places.append((place, why))

    def verdict(self, text: str, count: int = 1) -> None:
        """Count what the node made of the output of its script; empty without a script."""
        if text and text not in self.verdicts and len(self.verdicts) >= MAX_VERDICTS:
            text = VARIOUS
        if text:
            self.verdicts[text] += count

    def merge(self, other: Tally) -> None:
        """Add the counts of the records that follow."""
        for name in ("records", "reasons", "matrix", "steps", "used"):
            getattr(self, name).update(getattr(other, name))
        for name in ("outside", "same", "changed", "uncompared"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for text, count in other.verdicts.items():
            self.verdict(text, count)
        self.items = self.items or other.items
        self.places = [*self.places, *other.places][:MAX_PLACES]
        self.extend(other.first, other.last)
        for key, group in other.groups.items():
            self._merge_group(key, group)

    def _merge_group(self, key: GroupKey, group: Group) -> None:
        if key not in self.groups and len(self.groups) >= MAX_GROUPS:
            key = key._replace(old_reason=VARIOUS, new_reason=VARIOUS)
            group.key = key
        known = self.groups.get(key)
        if known is None:
            self.groups[key] = group
        else:
            known.merge(group)


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
    covers: bool = False
    """True with coverage."""

    @property
    def compared(self) -> int:
        """Return the number of calls with two answers."""
        return self.tally.same + self.tally.changed

    @property
    def selected(self) -> int:
        """Return the number of calls in the selected groups."""
        return sum(group.count for group in self.groups)

    @property
    def changed_share(self) -> float:
        """Return the part of the compared calls that changes, 0 to 1."""
        return self.tally.changed / self.compared if self.compared else 0.0

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
