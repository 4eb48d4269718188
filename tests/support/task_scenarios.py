"""Scenarios of code that depends on the current task. Each records its observations."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

import aiohttp
import anyio
import httpx
from anyio.lowlevel import checkpoint
from sqlalchemy import text
from sqlalchemy.ext.asyncio import async_scoped_session, async_sessionmaker, create_async_engine

SOON = 0.01
NEVER = 60.0
VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="unset")
OPEN: list[object] = []
"""Generators that are closed only with the event loop."""
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

Seen = list[object]


def me() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def child(seen: Seen, seconds: float = 2 * SOON) -> None:
    try:
        await asyncio.sleep(seconds)
        seen.append("child: ran to its end")
    except asyncio.CancelledError:
        seen.append("child: cancelled")
        raise


async def fails() -> None:
    raise ValueError("child")


async def nested_timeouts(seen: Seen) -> None:
    async with asyncio.timeout(NEVER) as outer:
        with suppress(TimeoutError):
            async with asyncio.timeout(SOON):
                await asyncio.sleep(NEVER)
        await asyncio.sleep(SOON)
    seen += [outer.expired(), me().cancelling()]


async def a_timeout_of_nothing_round_gather(seen: Seen) -> None:
    try:
        async with asyncio.timeout(0):
            await asyncio.gather(child(seen), child(seen))
    except TimeoutError:
        seen.append("late")


async def wait_for(seen: Seen) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(child(seen, NEVER), SOON)
    seen.append(await asyncio.wait_for(asyncio.sleep(0, "in time"), NEVER))


async def a_task_group_whose_child_fails(seen: Seen) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(child(seen, NEVER))
            await asyncio.sleep(0)
            group.create_task(fails())
            await asyncio.sleep(NEVER)
    except* ValueError as errors:
        seen.append(str(errors.exceptions))
    seen.append(me().cancelling())


async def variables_of_children(seen: Seen) -> None:
    async def sets() -> None:
        seen.append(VARIABLE.get())
        VARIABLE.set("the child's")

    token = VARIABLE.set("mine")
    await asyncio.create_task(sets())
    seen.append(await asyncio.to_thread(VARIABLE.get))
    VARIABLE.reset(token)
    seen.append(VARIABLE.get())


async def an_async_generator_left_open(seen: Seen) -> None:
    async def ticks() -> AsyncIterator[int]:
        async with asyncio.timeout(SOON):
            yield 1
            yield 2

    generator = ticks()
    OPEN.append(generator)
    seen.append(await anext(generator))


async def a_timer_left_to_cancel_the_task(seen: Seen) -> None:
    asyncio.get_running_loop().call_later(SOON / 2, me().cancel)
    seen.append("answered from memory")


async def a_timer_that_cancels_the_task(seen: Seen) -> None:
    asyncio.get_running_loop().call_later(SOON / 2, me().cancel)
    try:
        await asyncio.sleep(NEVER)
    finally:
        seen.append("finally")


async def a_task_that_cancels_itself(seen: Seen) -> None:
    me().cancel()
    try:
        await asyncio.sleep(NEVER)
    except asyncio.CancelledError:
        seen += [me().cancelling(), me().uncancel()]
    await asyncio.sleep(0)


async def a_callback_at_the_end(seen: Seen) -> None:
    me().add_done_callback(lambda task: seen.append(("callback", task.done())))
    before = me()
    await asyncio.sleep(0)
    seen += [before is me(), me() in asyncio.all_tasks()]


async def anyio_scopes(seen: Seen) -> None:
    with anyio.move_on_after(SOON) as scope:
        await anyio.sleep(NEVER)
    seen.append(scope.cancelled_caught)
    with anyio.move_on_after(SOON / 2):
        with anyio.CancelScope(shield=True):
            await anyio.sleep(SOON)
            seen.append("shielded")
        await checkpoint()
        seen.append("not reached")


async def anyio_task_group_that_is_cancelled(seen: Seen) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, NEVER)
        await checkpoint()
        group.cancel_scope.cancel()
    seen.append(me().cancelling())


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
    session = sessions()
    seen.append((await sessions.execute(text("select 6 * 7"))).scalar_one())
    seen.append(session is sessions())
    await sessions.remove()
    await engine.dispose()


SCENARIOS = [
    nested_timeouts,
    a_timeout_of_nothing_round_gather,
    wait_for,
    a_task_group_whose_child_fails,
    variables_of_children,
    an_async_generator_left_open,
    a_timer_left_to_cancel_the_task,
    a_timer_that_cancels_the_task,
    a_task_that_cancels_itself,
    a_callback_at_the_end,
    anyio_scopes,
    anyio_task_group_that_is_cancelled,
    httpx_client,
    aiohttp_client,
    sqlalchemy_engine,
]
