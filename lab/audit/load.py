"""A load generator that records each answer, with one call at a time on each connection."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.support import wire

ID = re.compile(rb'"decision_id":"([0-9a-f-]{36})"')
TARGETS = (
    f"{wire.SERVICE}?local_alias=sip:engineering%40example.com&call_tag=",
    f"{wire.PARTICIPANT}?service_tag=engineering&remote_alias=",
    f"{wire.REGISTRATION}alice%40example.com?location=",
)


@dataclass
class Answers:
    """The answered calls, the longest duration, and the aborted calls."""

    ids: list[str] = field(default_factory=list)
    longest: float = 0.0
    broken: int = 0
    unusable: list[str] = field(default_factory=list)
    """Replies other than an answer."""


async def _connection(
    port: int, answers: Answers, pause: float, goes_on: Callable[[], bool]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = 0
    try:
        while goes_on():
            number += 1
            target = f"{TARGETS[number % len(TARGETS)]}{number}"
            began = time.perf_counter()
            writer.write(wire.request_bytes(target, "GET", {"Connection": "keep-alive"}))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(wire.parse(head).headers["content-length"])
            body = await reader.readexactly(length)
            answers.longest = max(answers.longest, time.perf_counter() - began)
            if (found := ID.search(body)) is not None:
                answers.ids.append(found[1].decode())
            else:
                answers.unusable.append(head.decode("latin-1")[:40])
            if pause:
                await asyncio.sleep(pause)
    except (OSError, EOFError):
        answers.broken += 1
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def load(port: int, connections: int, pause: float = 0.0) -> AsyncIterator[Answers]:
    """Ask on a number of connections while the block runs, with a pause after each reply."""
    answers = Answers()
    stopped = asyncio.Event()
    tasks = [
        asyncio.create_task(_connection(port, answers, pause, lambda: not stopped.is_set()))
        for _ in range(connections)
    ]
    try:
        yield answers
    finally:
        stopped.set()
        await asyncio.gather(*tasks)
