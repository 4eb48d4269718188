"""Background tasks of the server."""

import asyncio

from pexpolicy.tasks import start_background


async def test_a_background_task_is_hidden_and_held_until_it_is_done() -> None:
    running: set[asyncio.Task[int]] = set()
    release = asyncio.Event()

    async def work() -> int:
        await release.wait()
        return 7

    task = start_background(work(), running)
    await asyncio.sleep(0)
    assert task not in asyncio.all_tasks()
    assert running == {task}
    release.set()
    assert await task == 7
    await asyncio.sleep(0)
    assert running == set()
