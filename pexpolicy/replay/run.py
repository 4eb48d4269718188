"""A replay from files to its result, in this process or in several."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from pexpolicy.replay.job import Job, open_replayer
from pexpolicy.replay.record_files import RecordFiles
from pexpolicy.replay.records import Exactness
from pexpolicy.replay.result import ReplayResult, Tally, ordered
from pexpolicy.replay.server import ServerAddress
from pexpolicy.replay.workers import tallies

SMALL = 8 << 20
"""Bytes of records below which further processes would only cost time."""
MAX_PROCESSES = 8
Progress = Callable[[Tally, float], None]
"""Is told the counts so far, and the share of the files that is replayed, 0 to 1."""


def run_replay(
    records: Sequence[Path],
    job: Job,
    *,
    with_rotated: bool = True,
    processes: int | None = None,
    progress: Progress = lambda *_: None,
) -> ReplayResult:
    """Replay the records of files, and return what would change.

    Without ``with_rotated`` the files are read as listed; with it, those rotated away from an audit
    file are read too, and the files in folders. ``processes`` is the number of worker processes; 0
    is this process alone, which then has the event loop of the replay, and ``None`` chooses by the
    size of the files. Raise ``ConfigError`` for a configuration that cannot be used, and
    ``OSError`` for a file that cannot be opened.
    """
    began = time.monotonic()
    files = RecordFiles(records, with_rotated=with_rotated)
    if processes is None:
        is_small = files.size < SMALL or isinstance(job.against, ServerAddress)
        processes = 0 if is_small else min(_cpus(), MAX_PROCESSES)
    total = Tally()

    def add(tally: Tally, position: float) -> None:
        total.merge(tally)
        progress(total, min(position / files.size, 1.0) if files.size else 1.0)

    if processes == 0:
        asyncio.run(_here(files, job, add))
    else:
        for tally in tallies(files.blocks(), job, processes):
            add(tally, files.position)
    for damage in files.damage:
        place = f"{damage.file}:{damage.line}" if damage.line else damage.file
        total.unusable(Exactness.UNREADABLE, damage.text, place)
    groups = ordered(total.groups.values(), job.selection.only)
    return ReplayResult(
        str(job.config),
        _name(job.against),
        tuple((name, str(form)) for name, form in files.forms),
        total,
        groups,
        sum(group.count for group in groups),
        tuple(_remarks(job)),
        time.monotonic() - began,
        covers=job.coverage,
    )


async def _here(files: RecordFiles, job: Job, add: Callable[[Tally, float], None]) -> None:
    async with AsyncExitStack() as stack:
        replayer = await open_replayer(stack, job)
        begins = 0
        for block in files.blocks():
            ends = files.position
            async for tally, share in replayer.parts(block):
                add(tally, begins + share * (ends - begins))
            begins = ends


def _name(against: Path | ServerAddress | None) -> str:
    if against is None:
        return ""
    return against.url if isinstance(against, ServerAddress) else str(against)


def _remarks(job: Job) -> Iterator[str]:
    if isinstance(job.against, ServerAddress):
        yield "the server answers at the present time, and not at that of the records"
    if job.scripts and job.against is None:
        yield "the records hold what was sent, so all that the local policy changes is a change"


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
