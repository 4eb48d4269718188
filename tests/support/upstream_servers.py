"""Policy servers made of a socket and a function, which decides about each byte that leaves."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

Behave = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Answer = Callable[[bytes], bytes]
"""From the head of a request to a whole reply."""

ROOM = {"name": "Room", "service_type": "conference", "service_tag": "room"}


@dataclass
class Upstream:
    """A server of the test's own, and what it was asked."""

    url: str
    heads: list[bytes] = field(default_factory=list)
    """Each request as it came, up to the empty line."""
    connections: int = 0

    @property
    def targets(self) -> list[bytes]:
        """What stood in the request lines."""
        return [head.split(b" ")[1] for head in self.heads]


def reply(
    body: bytes | dict[str, Any],
    status: str = "200 OK",
    kind: str = "application/json",
    extra: str = "",
) -> bytes:
    """A whole reply with the right length."""
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n{extra}"
    return head.encode() + b"\r\n" + content


def decided(result: Any = None, action: str = "continue", **more: Any) -> bytes:
    """A reply with a decision."""
    body = {"status": "success", "action": action, **more}
    return reply(body if result is None else {**body, "result": result})


def always(content: bytes) -> Answer:
    """A server that replies the same each time."""
    return lambda _: content


@asynccontextmanager
async def answering(
    answer: Answer, *, secure: ssl.SSLContext | None = None
) -> AsyncIterator[Upstream]:
    """A sound server that keeps its connections, and replies what ``answer`` gives."""
    asked: Upstream

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            asked.heads.append(head)
            writer.write(answer(head))
            await writer.drain()

    async with behaving(behave, secure=secure) as asked:
        yield asked


@asynccontextmanager
async def behaving(
    behave: Behave, *, secure: ssl.SSLContext | None = None
) -> AsyncIterator[Upstream]:
    """A server that does this with each connection; what is under way is ended on leaving."""
    under_way: set[asyncio.Task[None]] = set()
    made = Upstream("")

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.connections += 1
        task = asyncio.current_task()
        assert task is not None
        under_way.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await behave(reader, writer)
        finally:
            under_way.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=secure)
    port = server.sockets[0].getsockname()[1]
    made.url = f"http{'s' if secure else ''}://127.0.0.1:{port}"
    try:
        yield made
    finally:
        server.close()
        for task in list(under_way):
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
