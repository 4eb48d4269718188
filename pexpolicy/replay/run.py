"""A replay from files to its result: the sides that answer, what stays the same, what changes."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct, field
from multidict import MultiDict, MultiMapping

from pexpolicy.audit.redaction import Redaction, redaction_of
from pexpolicy.builder import policy_from
from pexpolicy.conformance.http_client import Wire, connected
from pexpolicy.endpoints.base import JPEG
from pexpolicy.explain.explanation import request_of
from pexpolicy.explain.request_forms import RecordedRequest, target_of
from pexpolicy.models.context import HOOK_CONTEXT, DryRunClock
from pexpolicy.models.difference import Changes
from pexpolicy.models.outcome import ANSWERED
from pexpolicy.models.request import Request, by_prefix, header_values, parameters_of
from pexpolicy.policy import BuildContext, Policy
from pexpolicy.replay.comparison import PICTURE, Side, compare, of_answer, of_reply, without_ids
from pexpolicy.replay.records import Call, Exactness, RecordFiles, Unusable
from pexpolicy.testing.coverage import Coverage

NO_ID = "00000000-0000-7000-8000-000000000000"
"""The decision ID of a call whose record has none; equal replays have equal replies."""
MAX_ANSWER_S = 10.0
"""Seconds for one answer of a configuration, whose plugins have no limits of their own here."""
MAX_FAILURES = 5
"""Calls in a row without a reply after which the replay ends."""
_EVENTS = frozenset(("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg"))
_UNAUTHORIZED = 401


class NotReplayableError(Exception):
    """The answer to a call says nothing about the one at the time; the text says why."""


class ServerFailedError(Exception):
    """The server cannot be reached, or refuses access."""


class NetworkBlock:
    """Refuses connections of this process while it is active, and remembers who tried one.

    Python cannot remove an audit hook, so an inactive one stays in the process.
    """

    def __init__(self) -> None:
        self.plugins: set[str] = set()
        """The plugins that tried to connect; an empty name for what no plugin did."""
        self.is_active = False
        sys.addaudithook(self._audit)

    def _audit(self, event: str, _: object) -> None:
        if self.is_active and event in _EVENTS:
            (plugin, _hook), _request = HOOK_CONTEXT.get()
            self.plugins.add(plugin)
            raise ConnectionRefusedError("a replay asks no network")


class _ReadParameters:
    """Parameters that remember which of ``watched`` were read; a walk through all reads each."""

    def __init__(self, params: MultiMapping[str], watched: Iterable[str]) -> None:
        self._params = params
        self._watched = frozenset(watched)
        self.read: set[str] = set()

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def noted(*names: str) -> Any:
            self.read |= self._watched.intersection(names[:1]) if names else self._watched
            return getattr(self._params, method)(*names)

        return noted

    def __getitem__(self, name: str) -> Any:
        return self.getone(name)

    def __contains__(self, name: str) -> bool:
        return bool(self.getall(name, ()))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())


def _watch(request: Request, watched: Iterable[str]) -> set[str]:
    """Make a request remember which of these parameters are read of it; return them."""
    params = request.params
    reads = _ReadParameters(params, watched)
    request.__dict__["params"] = reads
    missing = MultiDict(dict.fromkeys(watched, "x"))
    for attribute, parameter in parameters_of(type(request)).items():
        # These parsers go through all parameters in search of some.
        is_search = parameter.read in (header_values, by_prefix)
        if is_search and not parameter.read(missing, parameter.wire):
            request.__dict__[attribute] = parameter.read(params, parameter.wire)
    return reads.read


class ReplayClock(DryRunClock):
    """A wall clock at the time of a record, which remembers whether it was read."""

    was_read = False

    def __call__(self) -> float:
        """Return seconds since 1970."""
        self.was_read = True
        return super().__call__()


Answered = tuple[Side, set[str]]
"""The answer of one side to a recorded call; the missing parameters that were read, and the time
where that is missing and was read.
"""


@dataclass
class ReplayPolicy:
    """A policy that answers recorded calls."""

    policy: Policy
    clock: ReplayClock
    block: NetworkBlock
    redaction: Redaction
    coverage: Coverage | None = None
    """Counts what decides, if that is asked for."""

    async def answer(self, call: Call) -> Answered:
        """Return the answer that takes effect; raise ``NotReplayableError``."""
        recorded = call.request
        request, at, line = request_of(self.policy.settings, recorded), recorded.at, recorded.line
        watched = (*call.missing, *call.hashed)
        read = _watch(request, watched) if watched else set()
        self.clock.at = None if at is None else at.timestamp()
        self.clock.was_read = False
        try:
            async with asyncio.timeout(MAX_ANSWER_S):
                answer = await self.policy.answer(request, (line and line.decision_id) or NO_ID)
        except TimeoutError:
            raise NotReplayableError(f"no answer within {MAX_ANSWER_S:g} s") from None
        for step in answer.outcome.steps:
            if step.outcome not in ANSWERED and step.plugin in self.block.plugins:
                raise NotReplayableError(f"the plugin {step.plugin} asks the network")
        if at is None and self.clock.was_read:
            read.add("its time")
        # The alias in the path is always read.
        if hashed := {*read, "alias"}.intersection(call.hashed):
            names = ", ".join(sorted(hashed))
            raise NotReplayableError(f"{names} is hashed or left out, and a plugin reads it")
        if self.coverage is not None:
            self.coverage.add(answer.outcome)
        return of_answer(answer, self.redaction), read


@asynccontextmanager
async def opened(path: Path, block: NetworkBlock) -> AsyncIterator[ReplayPolicy]:
    """Build a configuration and open it for a replay; raise ``ConfigError``.

    Its plugins cannot connect to anything, and none is late on a busy machine.
    """
    clock = ReplayClock()
    context = BuildContext(is_repeatable=True, wall_clock=clock, time_limits=False)
    block.is_active = True
    try:
        policy = policy_from(path, context=context)
        async with policy.serving():
            yield ReplayPolicy(policy, clock, block, redaction_of(policy.settings))
    finally:
        block.is_active = False


class ServerAddress(NamedTuple):
    """The URL of a policy profile, the part before ``/policy/v1``, and how to reach it."""

    url: str
    authorization: str | None = None
    """The ``Authorization`` header."""

    def __str__(self) -> str:
        return self.url


@dataclass
class PolicyServer:
    """Asks a policy server at the present time."""

    wire: Wire
    block: NetworkBlock
    redaction: Redaction
    failures: int = 0
    """Calls in a row without a reply."""

    async def answer(self, call: Call) -> Answered:
        """Return the reply that takes effect; raise ``NotReplayableError``, and
        ``ServerFailedError`` where the server answers nothing any more.
        """
        self.block.is_active = False
        reply = await self.wire.get(call.request.target())
        self.block.is_active = True
        if reply.status == _UNAUTHORIZED:
            msg = f"{self.wire.base} refuses access (401): user or password is wrong or missing"
            raise ServerFailedError(msg)
        if reply.failure:
            self.failures += 1
            if self.failures >= MAX_FAILURES:
                raise ServerFailedError(f"{self.wire.base} does not answer: {reply.failure}")
            raise NotReplayableError(f"the server gave no reply: {reply.failure}")
        self.failures = 0
        if reply.media_type == JPEG:
            return Side("continue", reply.status, PICTURE, is_ours=False), set()
        try:
            body = msgspec.json.decode(reply.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            body = None
        return of_reply(call.request.endpoint, reply.status, body, self.redaction), set()


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


class Job(NamedTuple):
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
    """What the answers of one side have in common, as far as it is known."""

    action: str
    decided_by: str | None
    reason: str | None


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
    decision_id: str | None
    url: str
    changes: Changes
    missing: tuple[str, ...] = ()
    """Parameters that the record was written without."""
    peer: str | None = None


class Period(Struct):
    """The time from the first call to the last."""

    first: datetime | None = None
    last: datetime | None = None

    def extend(self, at: datetime | None) -> None:
        """Include a time, if it is known."""
        self.first = min(filter(None, (self.first, at)), default=None)
        self.last = max(filter(None, (self.last, at)), default=None)


class Group(Period, kw_only=True):
    """Calls whose answers change in the same way."""

    key: GroupKey
    example: Example
    count: int = 0
    partial: int = 0
    """Those whose records are not exact."""


class Tally(Period, kw_only=True):
    """The result of a replay so far."""

    job: Job
    files: list[dict[str, str]] = []
    """Each file with the form of its records."""
    records: Counter[Exactness] = field(default_factory=Counter)
    reasons: Counter[tuple[Exactness, str]] = field(default_factory=Counter)
    """Why records are partial, not replayable or unreadable."""
    places: list[dict[str, str]] = []
    """The first unreadable places, each with what is wrong."""
    outside: int = 0
    """Records before the requested period."""
    same: int = 0
    changed: int = 0
    uncompared: int = 0
    """Calls that are compared with nothing, as their record has no reply."""
    matrix: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Calls by endpoint, old action and new action; the old one is empty if it is not known."""
    groups: dict[GroupKey, Group] = {}
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
        return sorted(chosen, key=lambda group: -group.count)

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
            self.places.append({"place": record.place, "reason": record.why})

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
            old = PolicyServer(await stack.enter_async_context(wire), block, new.redaction)
        if job.coverage:
            tally.coverage = new.coverage = Coverage(new.policy)
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
    new, read = await policy.answer(call)
    if other is not None:
        old, missed = await other.answer(call)
        read |= missed
    exactness = Exactness.PARTIAL if read else Exactness.EXACT
    if read:
        text = f"written without {', '.join(sorted(read))}, which a plugin reads"
        tally.reasons[exactness, text] += 1
    tally.records[exactness] += 1
    tally.extend(request.at)
    before, after = old.word(endpoint) if old is not None else "", new.word(endpoint)
    tally.matrix[endpoint, before, after] += 1
    if old is None:
        tally.uncompared += 1
        return
    changes = {
        name: change for name, change in compare(old, new).items() if name not in tally.job.ignore
    }
    if not changes:
        tally.same += 1
        return
    sides = _general(before, old, request), _general(after, new, request)
    key = GroupKey(endpoint, *sides, tuple(sorted(changes)))
    facts, withheld = policy.redaction.request(endpoint, request.params, request.alias)
    url = target_of(endpoint, str(facts.pop("alias", "")), facts)
    missing = tuple(dict.fromkeys((*call.missing, *call.hashed, *withheld)))
    decision_id = request.line.decision_id or None if request.line else None
    example = Example(call.place, request.at, decision_id, url, changes, missing, request.peer)
    tally.change(key, example, partial=bool(read))


def _general(action: str, side: Side, request: RecordedRequest) -> GroupSide:
    """Return a side with names in braces for values that differ from call to call."""
    reason = side.reason or ""
    for name, value in (*request.params.items(), ("alias", request.alias)) if reason else ():
        if name.endswith(_IN_REASONS) and value in reason and _DISTINCT.search(value):
            reason = reason.replace(value, f"{{{name}}}")
    return GroupSide(action, side.decided_by, without_ids(reason) or None)
