"""A replay from files to its result."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from pexpolicy.audit.redaction import Redaction
from pexpolicy.conformance.http_client import connected
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.difference import Changes
from pexpolicy.replay.comparison import Side, compare, without_ids
from pexpolicy.replay.record_files import RecordFiles
from pexpolicy.replay.records import Call, Exactness, Unusable
from pexpolicy.replay.result import Example, GroupKey, ReplayResult, Tally, ordered
from pexpolicy.replay.sides import (
    NetworkBlock,
    NotReplayableError,
    PolicyServer,
    ReplayPolicy,
    ServerAddress,
    opened,
)
from pexpolicy.testing.coverage import Coverage

PRESENT = "the server answers at the present time, and not at that of the records"
PROGRESS_S = 0.5
"""Time after which the counts so far are told."""
_IN_REASONS = ("alias", "name", "address", "tag", "uuid")
"""Ends of the names of parameters whose values differ from call to call."""
_DISTINCT = re.compile(r"[0-9@:].*..|..[0-9@:]")
"""Found in values that are no words of a reason by accident."""

Progress = Callable[[Tally, float], None]
"""Is told the counts so far, and the share of the files that is replayed, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is replayed and compared: the new configuration, and the other side."""

    config: Path
    against: Path | ServerAddress | None = None
    """Another configuration, or a server; by default the replies of the records."""
    since: float | None = None
    """Seconds since 1970; records without a time are always replayed."""
    ignore: frozenset[str] = frozenset()
    """Names of fields that may differ."""
    only: tuple[str, ...] = ()
    """Actions, endpoints, plugins or fields that the reported groups have."""
    coverage: bool = False
    """True: the items of plugins that decide are counted."""


def run_replay(
    records: Sequence[Path],
    job: Job,
    *,
    with_rotated: bool = True,
    progress: Progress = lambda *_: None,
) -> ReplayResult:
    """Replay the records of files, and return what would change.

    Without ``with_rotated`` the files are read as listed; with it, those rotated away from an audit
    file are read too, and the files in folders. Raise ``ConfigError`` for a configuration that
    cannot be used, ``ServerFailedError`` for a server, and ``OSError`` for a file that cannot be
    opened.
    """
    began = time.monotonic()
    files = RecordFiles(records, with_rotated=with_rotated)
    tally = asyncio.run(_replay(files, job, progress))
    server = job.against.url if isinstance(job.against, ServerAddress) else ""
    return ReplayResult(
        config=str(job.config),
        against=server or str(job.against or ""),
        files=tuple((name, str(form)) for name, form in files.forms),
        tally=tally,
        groups=ordered(tally.groups.values(), job.only),
        remarks=(PRESENT,) if server else (),
        seconds=time.monotonic() - began,
    )


async def _replay(files: RecordFiles, job: Job, progress: Progress) -> Tally:
    told = time.monotonic()
    async with AsyncExitStack() as stack:
        replayer = await _opened(stack, job)
        tally = replayer.tally
        for record in files.records():
            await replayer.add(record)
            if time.monotonic() - told >= PROGRESS_S:
                progress(tally, files.share)
                told = time.monotonic()
    progress(tally, 1.0)
    return tally


async def _opened(stack: AsyncExitStack, job: Job) -> Replayer:
    block = NetworkBlock()
    new = await stack.enter_async_context(opened(job.config, block))
    old: ReplayPolicy | PolicyServer | None = None
    if isinstance(job.against, Path):
        old = await stack.enter_async_context(opened(job.against, block))
    elif job.against is not None:
        wire = connected(job.against.url, authorization=job.against.authorization)
        old = PolicyServer(await stack.enter_async_context(wire), block)
    return Replayer(new, old, job)


class Replayer:
    """Asks both sides about recorded calls, and counts what differs."""

    def __init__(
        self, new: ReplayPolicy, old: ReplayPolicy | PolicyServer | None, job: Job
    ) -> None:
        self.tally = Tally()
        self._new = new
        self._old = old
        self._job = job
        if job.coverage:
            self.tally.coverage = Coverage(new.policy)

    async def add(self, record: Call | Unusable) -> None:
        """Count a record."""
        if isinstance(record, Unusable):
            self.tally.unusable(record)
            return
        if record.at is not None and record.at < (self._job.since or record.at):
            self.tally.outside += 1
            return
        try:
            await self._replay(record)
        except NotReplayableError as error:
            why = Unusable(record.place, Exactness.NOT_REPLAYABLE, str(error))
            self.tally.unusable(why)

    async def _replay(self, call: Call) -> None:
        tally, before = self.tally, call.reply
        new = await self._new.answer(call)
        read = new.read
        if isinstance(self._old, ReplayPolicy):
            old = await self._old.answer(call)
            before, read = old.side, read | old.read
        elif self._old is not None:
            before = await self._old.reply(call)
        exactness = Exactness.PARTIAL if read else Exactness.EXACT
        if read:
            text = f"written without {', '.join(sorted(read))}, which a plugin reads"
            tally.reasons[exactness, text] += 1
        tally.records[exactness] += 1
        tally.extend(call.at)
        if tally.coverage is not None:
            tally.coverage.add(new.outcome)
        self._compare(call, before, new.side, partial=bool(read))

    def _compare(self, call: Call, old: Side | None, new: Side, *, partial: bool) -> None:
        """Count what the new side changes; ``old`` is ``None`` for a record without a reply."""
        tally, endpoint = self.tally, call.endpoint
        before, after = old.word(endpoint) if old is not None else "", new.word(endpoint)
        tally.matrix[endpoint, before, after] += 1
        if old is None:
            tally.uncompared += 1
            return
        redaction = self._new.redaction
        changes = {
            name: change
            for name, change in compare(endpoint, old, new, redaction).items()
            if name not in self._job.ignore
        }
        if not changes:
            tally.same += 1
            return
        old_reason, new_reason = _general(old, call), _general(new, call)
        sides = (old.decided_by or "", old_reason, new.decided_by or "", new_reason)
        key = GroupKey(endpoint, before, after, *sides, tuple(sorted(changes)))
        tally.change(key, _example(call, changes, redaction), partial=partial)


def _general(side: Side, call: Call) -> str:
    """Return a reason with names in braces for values that differ from call to call."""
    reason = side.reason or ""
    for name, value in (*call.params.items(), ("alias", call.alias)) if reason else ():
        if name.endswith(_IN_REASONS) and value in reason and _DISTINCT.search(value):
            reason = reason.replace(value, f"{{{name}}}")
    return without_ids(reason)


def _example(call: Call, changes: Changes, redaction: Redaction) -> Example:
    facts, withheld = redaction.request(call.endpoint, call.params, call.alias)
    path = ENDPOINTS[call.endpoint].path
    if path.endswith("/"):
        path += quote(str(facts.pop("alias", "")), safe="")
    missing = tuple(dict.fromkeys((*call.missing, *call.hashed, *withheld)))
    url = f"{path}?{urlencode(facts, doseq=True)}"
    return Example(call.place, call.at, call.decision_id, url, changes, missing, call.peer)
