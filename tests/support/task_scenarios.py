"""Scenarios of code in a task with asyncio only. Each records its observations."""

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

SOON = 0.01
NEVER = 60.0
VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="unset")
OPEN: list[object] = []
"""Generators that are closed only with the event loop."""

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


async def a_timeout(seen: Seen) -> None:
    try:
        async with asyncio.timeout(SOON):
            await asyncio.sleep(NEVER)
    except TimeoutError:
        seen.append("late")


async def a_timeout_after_a_wait(seen: Seen) -> None:
    await asyncio.sleep(0)
    await a_timeout(seen)
    seen.append(me().cancelling())


async def nested_timeouts(seen: Seen) -> None:
    async with asyncio.timeout(NEVER) as outer:
        await a_timeout(seen)
        await asyncio.sleep(SOON)
    seen.append(outer.expired())


async def an_outer_timeout_that_is_shorter(seen: Seen) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(SOON):
            try:
                async with asyncio.timeout(NEVER):
                    await asyncio.sleep(NEVER)
            except BaseException as error:
                seen.append(type(error).__name__)
                raise
    seen.append(me().cancelling())


async def a_timeout_that_is_moved(seen: Seen) -> None:
    async with asyncio.timeout(SOON) as limit:
        limit.reschedule(asyncio.get_running_loop().time() + NEVER)
        await asyncio.sleep(2 * SOON)
    seen.append(limit.expired())


async def a_deadline_that_has_passed_round_a_task(seen: Seen) -> None:
    task = asyncio.create_task(child(seen))
    try:
        async with asyncio.timeout_at(asyncio.get_running_loop().time() - 1):
            await task
    except TimeoutError:
        seen.append("late")


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


async def wait_for_a_shield(seen: Seen) -> None:
    event = asyncio.Event()
    task = asyncio.create_task(event.wait())
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(task), SOON)
    seen.append(task.done())
    event.set()
    seen.append(await task)


async def a_task_group(seen: Seen) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asyncio.sleep(0, name)) for name in "ab"]
    seen += [task.result() for task in tasks]


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


async def a_task_group_whose_child_fails_at_once(seen: Seen) -> None:
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        loop.set_task_factory(_eager)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(child(seen, NEVER))
            await asyncio.sleep(0)
            group.create_task(fails())
            await asyncio.sleep(NEVER)
    except* ValueError as errors:
        seen.append(str(errors.exceptions))
    finally:
        loop.set_task_factory(None)


def _eager(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task[Any]:
    """As ``asyncio.eager_task_factory``, but accepting further options of other event loops."""
    return asyncio.Task(work, loop=loop, **{**options, "eager_start": True})


async def gathered_errors(seen: Seen) -> None:
    results = await asyncio.gather(fails(), asyncio.sleep(0, 1), return_exceptions=True)
    seen += [str(result) for result in results]


async def a_thread(seen: Seen) -> None:
    VARIABLE.set("mine")
    seen.append(await asyncio.to_thread(VARIABLE.get))


async def a_token_that_is_reset_after_a_wait(seen: Seen) -> None:
    token = VARIABLE.set("mine")
    await asyncio.sleep(0)
    seen.append(VARIABLE.get())
    VARIABLE.reset(token)
    seen.append(VARIABLE.get())


async def variables_of_children(seen: Seen) -> None:
    async def sets() -> None:
        seen.append(VARIABLE.get())
        VARIABLE.set("the child's")

    VARIABLE.set("mine")
    await asyncio.create_task(sets())
    seen.append(VARIABLE.get())


async def an_async_generator_left_open(seen: Seen) -> None:
    async def ticks() -> AsyncIterator[int]:
        async with asyncio.timeout(SOON):
            yield 1
            yield 2

    generator = ticks()
    OPEN.append(generator)
    seen.append(await anext(generator))


async def an_async_generator_closed_after_a_wait(seen: Seen) -> None:
    async def ticks() -> AsyncIterator[int]:
        try:
            async with asyncio.timeout(NEVER):
                yield 1
        finally:
            seen.append("closed")

    generator = ticks()
    seen.append(await anext(generator))
    await asyncio.sleep(0)
    await generator.aclose()  # type: ignore[attr-defined]


async def a_generator_left_open(seen: Seen) -> None:
    def holds() -> Iterator[str]:
        token = VARIABLE.set("the generator's")
        yield VARIABLE.get()
        VARIABLE.reset(token)

    generator = holds()
    OPEN.append(generator)
    seen.append(next(generator))
    await asyncio.sleep(0)
    seen.append(VARIABLE.get())


async def a_lock(seen: Seen) -> None:
    lock = asyncio.Lock()
    async with lock:
        other = asyncio.create_task(_locks(lock, seen))
        await asyncio.sleep(0)
        seen.append("first")
    await other


async def _locks(lock: asyncio.Lock, seen: Seen) -> None:
    async with lock:
        seen.append("second")


async def a_queue(seen: Seen) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    task = asyncio.create_task(_fill(queue))
    seen += [await queue.get() for _ in range(3)]
    await task


async def _fill(queue: asyncio.Queue[int]) -> None:
    for number in range(3):
        await queue.put(number)


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
        seen.append(me().cancelling())
        seen.append(me().uncancel())
    await asyncio.sleep(0)


async def a_child_that_cancels_its_parent(seen: Seen) -> None:
    parent = me()

    async def cancels() -> None:
        parent.cancel("by the child")

    task = asyncio.create_task(cancels())
    try:
        await asyncio.sleep(NEVER)
    except asyncio.CancelledError as error:
        seen.append(error.args)
        parent.uncancel()
    await task


async def a_callback_at_the_end_without_a_wait(seen: Seen) -> None:
    me().add_done_callback(lambda task: seen.append(("callback", task.done())))


async def a_callback_at_the_end_after_a_wait(seen: Seen) -> None:
    me().add_done_callback(lambda task: seen.append(("callback", task.done())))
    await asyncio.sleep(0)


async def the_current_task_before_and_after_a_wait(seen: Seen) -> None:
    before = me()
    await asyncio.sleep(0)
    seen.append(before is me())


async def the_current_task_among_all(seen: Seen) -> None:
    await asyncio.sleep(0)
    seen.append(me() in asyncio.all_tasks())


async def the_context_of_the_task(seen: Seen) -> None:
    VARIABLE.set("mine")
    if sys.version_info >= (3, 12):
        before: str | None = me().get_context().get(VARIABLE)
        seen.append(before)
    await asyncio.sleep(0)
    seen.append(VARIABLE.get())
    if sys.version_info >= (3, 12):
        after: str | None = me().get_context().get(VARIABLE)
        seen.append(after)


async def the_place_where_the_task_waits(seen: Seen) -> None:
    task = me()

    def inspect_stack() -> None:
        seen.append(len(task.get_stack()))
        awaited: Any = task.get_coro()
        names = []
        while hasattr(awaited, "cr_await"):
            names.append(awaited.__name__)
            awaited = awaited.cr_await
        seen.append(names[-1])

    asyncio.get_running_loop().call_later(SOON / 2, inspect_stack)
    await asyncio.sleep(SOON)


async def an_event_of_another_task(seen: Seen) -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(SOON / 2, event.set)
    seen.append(await event.wait())


ASYNCIO = [
    a_timeout,
    a_timeout_after_a_wait,
    nested_timeouts,
    an_outer_timeout_that_is_shorter,
    a_timeout_that_is_moved,
    a_deadline_that_has_passed_round_a_task,
    a_timeout_of_nothing_round_gather,
    wait_for,
    wait_for_a_shield,
    a_task_group,
    a_task_group_whose_child_fails,
    a_task_group_whose_child_fails_at_once,
    gathered_errors,
    a_thread,
    a_token_that_is_reset_after_a_wait,
    variables_of_children,
    an_async_generator_left_open,
    an_async_generator_closed_after_a_wait,
    a_generator_left_open,
    a_lock,
    a_queue,
    a_timer_left_to_cancel_the_task,
    a_timer_that_cancels_the_task,
    a_task_that_cancels_itself,
    a_child_that_cancels_its_parent,
    a_callback_at_the_end_without_a_wait,
    a_callback_at_the_end_after_a_wait,
    the_current_task_before_and_after_a_wait,
    the_current_task_among_all,
    the_context_of_the_task,
    the_place_where_the_task_waits,
    an_event_of_another_task,
]
