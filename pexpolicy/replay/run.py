"""A replay from files to its result: what stays the same, and the groups of changes."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from pexpolicy.audit.redaction import Redaction
from pexpolicy.conformance.http_client import connected
from pexpolicy.explain.request_forms import RecordedRequest, target_of
from pexpolicy.models.difference import Changes
from pexpolicy.replay.comparison import Side, compare, without_ids
from pexpolicy.replay.records import Call, Exactness, RecordFiles, Unusable
from pexpolicy.replay.sides import (
    NetworkBlock,
    NotReplayableError,
    PolicyServer,
    ReplayPolicy,
    ServerAddress,
    opened,
)
from pexpolicy.testing.coverage import Coverage

PROGRESS_S = 0.5
"""Time after which the counts so far are told."""
_IN_REASONS = ("alias", "name", "address", "tag", "uuid")
"""Ends of the names of parameters whose values differ from call to call."""
_DISTINCT = re.compile(r"[0-9@:].*..|..[0-9@:]")
"""Found in values that are no words of a reason by accident."""

MAX_PLACES = 20
"""Damaged places that are listed; all are counted."""
MAX_GROUPS = 2_000
"""Groups that are told apart by their reasons; further ones are not."""
VARIOUS = "(various)"
_LENGTH = re.compile(r" \(\d+ bytes\)|^\d+ bytes of ")
"""What differs in the reasons of damaged lines."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is replayed and compared: the new configuration, and the other side."""

    config: Path
    against: Path | ServerAddress | None = None
    """By default the replies of the records."""
    since: datetime | None = None
    """Records without a time are always replayed."""
    ignore: frozenset[str] = frozenset()
    """Names of fields that may differ."""
    only: tuple[str, ...] = ()
    """Actions, endpoints, plugins or fields that the reported groups have."""
    coverage: bool = False
    """True: the items of plugins that decide are counted."""


class GroupSide(NamedTuple):
    """What the answers of one side have in common; empty where it is not known."""

    action: str
    decided_by: str
    reason: str


class GroupKey(NamedTuple):
    """What the changes of a group have in common."""

    endpoint: str
    old: GroupSide
    new: GroupSide
    fields: tuple[str, ...]
    """The names of the changed fields, in alphabetical order."""


class Example(NamedTuple):
    """The first call of a group, without secrets."""

    place: str
    at: datetime | None
    decision_id: str
    url: str
    changes: Changes
    missing: tuple[str, ...] = ()
    """Parameters that the record was written without."""
    peer: str | None = None


@dataclass(slots=True)
class Period:
    """The time from the first call to the last."""

    first: datetime | None = None
    last: datetime | None = None

    def extend(self, at: datetime | None) -> None:
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


@dataclass(slots=True)
class Tally(Period):
    """The result of a replay so far."""

    job: Job = field(kw_only=True)
    files: list[tuple[str, str]] = field(default_factory=list)
    """Each file with the form of its records."""
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
    seconds: float = 0.0

    @property
    def compared(self) -> int:
        """Return the number of calls with two answers."""
        return self.same + self.changed

    @property
    def selected(self) -> list[Group]:
        """Return the groups with all of the requested words, the largest first."""
        words = self.job.only
        chosen = [one for one in self.groups.values() if all(_has(one.key, w) for w in words)]
        return sorted(chosen, key=lambda group: (-group.count, group.key))

    @property
    def share(self) -> float:
        """Return the part of the compared calls that changes in a selected way, 0 to 1."""
        return sum(group.count for group in self.selected) / (self.compared or 1)

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
            old, new = (side._replace(reason=VARIOUS) for side in (key.old, key.new))
            key = key._replace(old=old, new=new)
        group = self.groups.setdefault(key, Group(key=key, example=example))
        group.count += 1
        group.partial += partial
        group.extend(example.at)


def _has(key: GroupKey, word: str) -> bool:
    return word in (key.endpoint, key.old.decided_by, key.new.decided_by, *key.fields) or any(
        side.action.startswith(word) for side in (key.old, key.new)
    )


Progress = Callable[[Tally, float], None]
"""Is told the counts so far, and the share of the files that is replayed, 0 to 1."""


def run_replay(records: Sequence[Path], job: Job, progress: Progress = lambda *_: None) -> Tally:
    """Replay the records of files, and return what would change.

    Raise ``ConfigError`` for a configuration that cannot be used, ``ServerFailedError`` for a
    server, and ``OSError`` for a file that cannot be opened.
    """
    began = time.monotonic()
    files = RecordFiles(records, job.since)
    tally = Tally(job=job, files=files.forms)
    asyncio.run(_replay(files, tally, progress))
    tally.seconds = time.monotonic() - began
    return tally


async def _replay(files: RecordFiles, tally: Tally, progress: Progress) -> None:
    told, job, block = time.monotonic(), tally.job, NetworkBlock()
    async with AsyncExitStack() as stack:
        new = await stack.enter_async_context(opened(job.config, block))
        old: ReplayPolicy | PolicyServer | None = None
        if isinstance(job.against, Path):
            old = await stack.enter_async_context(opened(job.against, block))
        elif job.against is not None:
            wire = connected(job.against.url, authorization=job.against.authorization)
            old = PolicyServer(await stack.enter_async_context(wire), block)
        if job.coverage:
            tally.coverage = Coverage(new.policy)
        for record in files.records():
            if isinstance(record, Unusable):
                tally.unusable(record)
            elif job.since and (at := record.request.at) is not None and at < job.since:
                tally.outside += 1
            else:
                try:
                    await _ask(tally, record, new, old)
                except NotReplayableError as error:
                    tally.unusable(Unusable(record.place, Exactness.NOT_REPLAYABLE, str(error)))
            if time.monotonic() - told >= PROGRESS_S:
                progress(tally, files.share)
                told = time.monotonic()
    progress(tally, 1.0)


async def _ask(
    tally: Tally, call: Call, policy: ReplayPolicy, other: ReplayPolicy | PolicyServer | None
) -> None:
    """Ask both sides about a recorded call, and count what differs."""
    old, request = call.reply, call.request
    endpoint = request.endpoint
    new, read, outcome = await policy.answer(call)
    if other is not None:
        old, missed, _ = await other.answer(call)
        read |= missed
    exactness = Exactness.PARTIAL if read else Exactness.EXACT
    if read:
        text = f"written without {', '.join(sorted(read))}, which a plugin reads"
        tally.reasons[exactness, text] += 1
    tally.records[exactness] += 1
    tally.extend(request.at)
    if tally.coverage is not None and outcome is not None:
        tally.coverage.add(outcome)
    before, after = old.word(endpoint) if old is not None else "", new.word(endpoint)
    tally.matrix[endpoint, before, after] += 1
    if old is None:
        tally.uncompared += 1
        return
    changes = compare(endpoint, old, new, policy.redaction)
    changes = {name: one for name, one in changes.items() if name not in tally.job.ignore}
    if not changes:
        tally.same += 1
        return
    sides = _general(before, old, request), _general(after, new, request)
    key = GroupKey(endpoint, sides[0], sides[1], tuple(sorted(changes)))
    tally.change(key, _example(call, changes, policy.redaction), partial=bool(read))


def _general(action: str, side: Side, request: RecordedRequest) -> GroupSide:
    """Return a side with names in braces for values that differ from call to call."""
    reason = side.reason or ""
    for name, value in (*request.params.items(), ("alias", request.alias)) if reason else ():
        if name.endswith(_IN_REASONS) and value in reason and _DISTINCT.search(value):
            reason = reason.replace(value, f"{{{name}}}")
    return GroupSide(action, side.decided_by or "", without_ids(reason))


def _example(call: Call, changes: Changes, redaction: Redaction) -> Example:
    request = call.request
    facts, withheld = redaction.request(request.endpoint, request.params, request.alias)
    alias = str(facts.pop("alias", "")) if request.alias else ""
    missing = tuple(dict.fromkeys((*call.missing, *call.hashed, *withheld)))
    url = target_of(request.endpoint, alias, facts)
    decision_id = request.line.decision_id if request.line else ""
    return Example(call.place, request.at, decision_id, url, changes, missing, request.peer)
