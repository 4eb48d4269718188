"""Scenarios with libraries that depend on the current task."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import anyio
import httpx
from anyio.lowlevel import checkpoint
from sqlalchemy import text
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)

from tests.support.task_scenarios import NEVER, OPEN, SOON, VARIABLE, Seen, me

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@asynccontextmanager
async def upstream() -> AsyncIterator[str]:
    """Run a server on loopback that answers, but never under ``/slow``."""
    writers: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/slow" not in head:
            writer.write(ANSWER)
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def anyio_move_on_after(seen: Seen) -> None:
    with anyio.move_on_after(SOON) as scope:
        await anyio.sleep(NEVER)
    seen.append(scope.cancelled_caught)
    await checkpoint()


async def anyio_fail_after(seen: Seen) -> None:
    try:
        with anyio.fail_after(SOON):
            await anyio.sleep(NEVER)
    except TimeoutError:
        seen.append("late")


async def anyio_cancel_scope(seen: Seen) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await checkpoint()
        seen.append("not reached")
    seen.append(scope.cancelled_caught)
    await checkpoint()


async def anyio_shielded_scope(seen: Seen) -> None:
    with anyio.move_on_after(SOON / 2):
        with anyio.CancelScope(shield=True):
            await anyio.sleep(SOON)
            seen.append("shielded")
        await checkpoint()
        seen.append("not reached")


async def anyio_task_group(seen: Seen) -> None:
    async def reports(name: str) -> None:
        await checkpoint()
        seen.append(name)

    async with anyio.create_task_group() as group:
        group.start_soon(reports, "a")
        group.start_soon(reports, "b")


async def anyio_task_group_that_is_cancelled(seen: Seen) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, NEVER)
        await checkpoint()
        group.cancel_scope.cancel()
    seen.append(me().cancelling())


async def anyio_thread(seen: Seen) -> None:
    VARIABLE.set("mine")
    seen.append(await anyio.to_thread.run_sync(VARIABLE.get))


async def anyio_current_task(seen: Seen) -> None:
    before = anyio.get_current_task()
    await checkpoint()
    seen.append((before.id == id(me()), before == anyio.get_current_task()))


async def anyio_scope_left_open(seen: Seen) -> None:
    async def ticks() -> AsyncIterator[int]:
        with anyio.move_on_after(SOON):
            yield 1
            yield 2

    generator = ticks()
    OPEN.append(generator)
    seen.append(await anext(generator))


async def httpx_client(seen: Seen) -> None:
    limit = httpx.Timeout(NEVER, read=2 * SOON)
    async with upstream() as url, httpx.AsyncClient(timeout=limit, trust_env=False) as client:
        try:
            await client.get(f"{url}/slow")
        except httpx.TimeoutException as error:
            seen.append(type(error).__name__)
        reply = await client.get(url, timeout=NEVER)
        seen.append(reply.text)


async def aiohttp_client(seen: Seen) -> None:
    limit = aiohttp.ClientTimeout(total=2 * SOON)
    async with upstream() as url, aiohttp.ClientSession() as session:
        try:
            async with session.get(f"{url}/slow", timeout=limit):
                seen.append("not reached")
        except TimeoutError:
            seen.append("late")
        async with session.get(url) as reply:
            seen.append(await reply.text())


async def sqlalchemy_engine(seen: Seen) -> None:
    engine = create_async_engine("sqlite+aiosqlite://")
    sessions = async_scoped_session(async_sessionmaker(engine), scopefunc=asyncio.current_task)
    session: AsyncSession = sessions()
    seen.append((await sessions.execute(text("select 6 * 7"))).scalar_one())
    seen.append(session is sessions())
    await sessions.remove()
    await engine.dispose()


LIBRARIES = [
    anyio_move_on_after,
    anyio_fail_after,
    anyio_cancel_scope,
    anyio_shielded_scope,
    anyio_task_group,
    anyio_task_group_that_is_cancelled,
    anyio_thread,
    anyio_current_task,
    anyio_scope_left_open,
    httpx_client,
    aiohttp_client,
    sqlalchemy_engine,
]
