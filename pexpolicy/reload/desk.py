"""The desk of a server: takes the commands that come by its socket, and answers them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from pexpolicy.hidden import hide
from pexpolicy.reload import control
from pexpolicy.reload.verdict import Verdict

RELOAD = b"reload\n"


@asynccontextmanager
async def open_desk(config: Path, reload: Callable[[], Awaitable[Verdict]]) -> AsyncIterator[bool]:
    """Answer commands while inside; gives whether there is a place for the socket."""
    placed = control.bind(config)
    if placed is None:
        yield False
        return
    listener, path = placed

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hide(asyncio.current_task())
        with suppress(OSError, ValueError):
            if await reader.readline() == RELOAD:
                writer.write(msgspec.json.encode(await reload()) + b"\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, sock=listener)
    try:
        yield True
    finally:
        server.close()
        path.unlink(missing_ok=True)
