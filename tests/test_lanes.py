"""Lanes: a coroutine that never waits costs no task, and one that waits has one from its start."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

import pytest

from pexpolicy.lanes import Lanes

VARIABLE: ContextVar[int] = ContextVar("VARIABLE", default=0)


@asynccontextmanager
async def opened() -> AsyncIterator[Lanes]:
    lanes = Lanes(asyncio.get_running_loop())
    try:
        yield lanes
    finally:
        await lanes.close()


async def test_work_that_never_waits_is_done_at_once_in_one_and_the_same_task() -> None:
    tasks: list[object] = []

    async def work() -> None:
        tasks.append(asyncio.current_task())

    async with opened() as lanes:
        for _ in range(100):
            assert lanes.begin(work()) is None
        assert len(tasks) == 100
        assert len(set(tasks)) == 1
        assert asyncio.current_task() not in tasks


async def test_work_that_waits_goes_on_in_the_task_in_which_it_was_begun() -> None:
    tasks: list[object] = []

    async def work() -> None:
        for _ in range(3):
            tasks.append(asyncio.current_task())
            await asyncio.sleep(0)
        tasks.append(asyncio.current_task())

    async with opened() as lanes:
        lane = lanes.begin(work())
        assert lane is not None
        await lane.done
        assert len(tasks) == 4
        assert set(tasks) == {lane.task}


async def test_the_task_of_whoever_begins_is_its_own_again_afterwards() -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    async with opened() as lanes:
        mine = asyncio.current_task()
        lane = lanes.begin(work())
        assert asyncio.current_task() is mine
        assert lane is not None
        async with asyncio.timeout(1):
            await lane.done
        assert asyncio.current_task() is mine


async def test_what_is_raised_before_the_first_wait_is_raised_at_once() -> None:
    async def work() -> None:
        raise ValueError("early")

    async with opened() as lanes:
        mine = asyncio.current_task()
        with pytest.raises(ValueError, match="early"):
            lanes.begin(work())
        assert asyncio.current_task() is mine


async def test_what_is_raised_after_the_first_wait_is_raised_where_the_end_is_awaited() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise KeyboardInterrupt

    async with opened() as lanes:
        lane = lanes.begin(work())
        assert lane is not None
        with pytest.raises(KeyboardInterrupt):
            await lane.done


async def test_variables_stay_in_the_work_that_set_them() -> None:
    seen: list[int] = []

    async def work(value: int) -> None:
        seen.append(VARIABLE.get())
        VARIABLE.set(value)
        await asyncio.sleep(0)
        seen.append(VARIABLE.get())

    async with opened() as lanes:
        both = [lanes.begin(work(1)), lanes.begin(work(2))]
        for lane in both:
            assert lane is not None
            await lane.done
    assert seen == [0, 0, 1, 2]
    assert VARIABLE.get() == 0


async def test_what_is_abandoned_is_cancelled_and_remembered_until_it_ends() -> None:
    go_on = asyncio.Event()
    ended: list[str] = []

    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await go_on.wait()
            ended.append("stubborn")

    async with opened() as lanes:
        lane = lanes.begin(stubborn())
        assert lane is not None
        lanes.abandon(lane, "toy.service_configuration")
        await asyncio.sleep(0)
        assert lanes.leftovers == ["toy.service_configuration"]
        go_on.set()
        await lane.done
        await asyncio.sleep(0)
        assert ended == ["stubborn"]
        assert lanes.leftovers == []


async def test_a_lane_that_was_cancelled_serves_nobody_else() -> None:
    tasks: list[asyncio.Task[object] | None] = []

    async def cancels() -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        task.cancel()

    async def looks() -> None:
        tasks.append(asyncio.current_task())

    async with opened() as lanes:
        assert lanes.begin(cancels()) is None
        assert lanes.begin(looks()) is None
        assert tasks[0] is not tasks[1]


async def test_closing_ends_every_parked_task() -> None:
    tasks: list[asyncio.Task[object]] = []

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)

    async with opened() as lanes:
        lanes.begin(work())
        assert not tasks[0].done()
    assert tasks[0].done()


async def test_whoever_cancels_all_tasks_finds_no_parked_one() -> None:
    async def works() -> None:
        """Be done at once."""

    async def waits() -> None:
        await asyncio.sleep(0)

    async with opened() as lanes:
        lanes.begin(works())
        me = asyncio.current_task()
        for task in asyncio.all_tasks():
            if task is not me:
                task.cancel()
        await asyncio.sleep(0)
        lane = lanes.begin(waits())
        assert lane is not None
        async with asyncio.timeout(1):
            await lane.done
