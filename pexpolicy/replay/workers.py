"""Worker processes of a replay: each takes a block of records and returns its counts."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from threading import Thread
from typing import Any, cast

from pexpolicy.replay.job import Job, open_replayer
from pexpolicy.replay.record_files import Block
from pexpolicy.replay.result import Tally

AHEAD = 2
"""Blocks that a worker has at a time, so that it never waits for the next one."""


class WorkerFailedError(Exception):
    """A worker process ended before its work was done."""


def tallies(blocks: Iterator[Block], job: Job, processes: int) -> Iterator[Tally]:
    """Yield the counts of each block, in their order, from worker processes.

    Raise what a worker raised, such as ``ConfigError``, and ``WorkerFailedError`` where one died.
    """
    context = multiprocessing.get_context("spawn")
    workers: dict[Connection, Any] = {}
    try:
        for _ in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, job), daemon=True)
            process.start()
            theirs.close()
            workers[ours] = process
        yield from _exchange(blocks, list(workers))
    except (EOFError, ConnectionError):
        msg = "a worker process of the replay ended early: is there enough memory?"
        raise WorkerFailedError(msg) from None
    finally:
        for connection, process in workers.items():
            connection.close()
            process.join(timeout=1.0)
            if process.is_alive():
                process.kill()
                process.join()


def _exchange(blocks: Iterator[Block], connections: list[Connection]) -> Iterator[Tally]:
    """Keep each worker busy; hold back counts that arrive before those of earlier blocks."""
    free = dict.fromkeys(connections, AHEAD)
    ready: dict[int, Tally] = {}
    following = 0
    sent = 0
    has_more = True
    while has_more or following < sent:
        for connection in connections:
            # Not far ahead of the slowest block, whose successors wait in memory.
            while has_more and free[connection] and sent - following < 8 * len(connections):
                block = next(blocks, None)
                if block is None:
                    has_more = False
                    break
                connection.send(block)
                free[connection] -= 1
                sent += 1
        busy = [connection for connection in connections if free[connection] < AHEAD]
        for connection in cast("list[Connection]", wait(busy)):
            number, tally = connection.recv()
            if isinstance(tally, BaseException):
                raise tally
            free[connection] += 1
            ready[number] = tally
        while following in ready:
            yield ready.pop(following)
            following += 1


def _work(connection: Connection, job: Job) -> None:
    """Replay blocks until the connection ends."""
    blocks: SimpleQueue[Block | None] = SimpleQueue()
    # The other process must never wait to send while this one waits to send.
    Thread(target=_receive, args=(connection, blocks), daemon=True).start()
    with suppress(OSError, KeyboardInterrupt):
        asyncio.run(_replay_blocks(connection, blocks, job))


def _receive(connection: Connection, blocks: SimpleQueue[Block | None]) -> None:
    with suppress(EOFError, OSError):
        while True:
            blocks.put(connection.recv())
    blocks.put(None)


async def _replay_blocks(
    connection: Connection, blocks: SimpleQueue[Block | None], job: Job
) -> None:
    async with AsyncExitStack() as stack:
        try:
            replayer = await open_replayer(stack, job)
        except Exception as error:  # noqa: BLE001 - the other process raises it
            connection.send((0, error))
            return
        while (block := blocks.get()) is not None:
            connection.send((block.number, await replayer.replay(block)))
