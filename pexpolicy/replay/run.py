"""A replay from files to its result, in this process or in several."""

from __future__ import annotations

import asyncio
import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from pexpolicy.child import UNLIMITED, Channel, Child, ChildError, parent_socket
from pexpolicy.replay.record_files import Block, RecordFiles
from pexpolicy.replay.records import Exactness
from pexpolicy.replay.replayer import Job, open_replayer
from pexpolicy.replay.result import ReplayResult, Tally, ordered
from pexpolicy.replay.sides import ServerAddress

SMALL = 8 << 20
"""Bytes of records below which further processes would only cost time."""
MAX_PROCESSES = 8
AHEAD = 4
"""Blocks for each worker that are read before their predecessors are counted."""
CLOSE_TIMEOUT_S = 1.0
"""Time for a worker to close its plugins at the end."""
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
    server = job.against.url if isinstance(job.against, ServerAddress) else ""
    if processes is None:
        processes = 0 if files.size < SMALL or server else min(_cpus(), MAX_PROCESSES)
    total = Tally()

    def add(tally: Tally, position: float) -> None:
        total.merge(tally)
        progress(total, min(position / files.size, 1.0) if files.size else 1.0)

    if processes == 0:
        asyncio.run(_here(files, job, add))
    else:
        for tally in tallies(files.blocks(), job, processes):
            add(tally, files.position)
    for place, text in files.damage:
        total.unusable(Exactness.UNREADABLE, text, place)
    groups = ordered(total.groups.values(), job.only)
    return ReplayResult(
        config=str(job.config),
        against=server or str(job.against or ""),
        files=tuple((name, str(form)) for name, form in files.forms),
        tally=total,
        groups=groups,
        remarks=tuple(_remarks(job)),
        seconds=time.monotonic() - began,
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


def _remarks(job: Job) -> Iterator[str]:
    if isinstance(job.against, ServerAddress):
        yield "the server answers at the present time, and not at that of the records"
    if job.local_policy and job.against is None:
        yield "the records hold what was sent, so all that the local policy changes is a change"


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def tallies(blocks: Iterator[Block], job: Job, processes: int) -> Iterator[Tally]:
    """Yield the counts of each block, in their order, from worker processes.

    Raise what a worker raised, such as ``ConfigError``, and ``ChildError`` where one has ended.
    """
    free: SimpleQueue[Child[Any]] = SimpleQueue()
    children: list[Child[Any]] = []
    asked: deque[Future[Tally]] = deque()
    with ThreadPoolExecutor(processes) as threads:
        try:
            for _ in range(processes):
                children.append(
                    Child("a worker of the replay", __name__, decode=pickle.loads, encode=_encode)
                )
                children[-1].limit = UNLIMITED
                children[-1].send(job)
                free.put(children[-1])
            for block in blocks:
                asked.append(threads.submit(_ask, free, block))
                if len(asked) > AHEAD * processes:
                    yield asked.popleft().result()
            while asked:
                yield asked.popleft().result()
            for child in children:
                child.send(None)
            for child in children:
                with suppress(ChildError, TimeoutError):
                    child.receive(time.monotonic() + CLOSE_TIMEOUT_S)
        finally:
            for child in children:
                child.end_now()
            threads.shutdown(cancel_futures=True)


def _ask(free: SimpleQueue[Child[Any]], block: Block) -> Tally:
    child = free.get()
    try:
        child.send(block)
        answer = child.receive()
    finally:
        free.put(child)
    if isinstance(answer, Exception):
        raise answer
    tally: Tally = answer
    return tally


def _encode(message: object) -> bytes:
    return pickle.dumps(message, pickle.HIGHEST_PROTOCOL)


async def _work(channel: Channel[Any]) -> None:
    """Replay the blocks of a job in a worker process, until ``None`` is sent."""
    async with AsyncExitStack() as stack:
        try:
            replayer = await open_replayer(stack, channel.receive())
        except Exception as error:  # noqa: BLE001 - the other process raises it
            channel.receive()
            channel.send(error)
            return
        while (block := channel.receive()) is not None:
            tally = Tally()
            async for part, _ in replayer.parts(block):
                tally.merge(part)
            channel.send(tally)
    channel.send(None)


if __name__ == "__main__":
    parent = Channel[Any]("the replay", parent_socket(), pickle.loads, _encode)
    parent.limit = UNLIMITED
    with suppress(EOFError):
        asyncio.run(_work(parent))
