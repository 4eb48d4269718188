"""The threads of a plugin: limited in number, and not shared."""

import asyncio
import threading
from contextvars import ContextVar

import pytest

from pexpolicy.chain.hook_tasks import (
    MAX_WAITING,
    PluginBusyError,
    PluginThreadPool,
    waiting_frames,
)
from pexpolicy.errors import place_of
from tests.support.waiting import until

VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="unset")


async def test_a_call_runs_in_a_thread_of_the_plugin() -> None:
    threads = PluginThreadPool("toy", 2)
    name = await threads.run(lambda _: threading.current_thread().name, None)
    assert name.startswith("plugin-toy")
    threads.close()


async def test_a_call_sees_the_context_and_leaves_it_as_it_was() -> None:
    def binds(_: object) -> str:
        before = VARIABLE.get()
        VARIABLE.set("bound")
        return before

    VARIABLE.set("mine")
    threads = PluginThreadPool("toy", 1)
    assert [await threads.run(binds, None) for _ in range(2)] == ["mine", "mine"]
    assert VARIABLE.get() == "mine"
    threads.close()


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), KeyboardInterrupt()])
async def test_what_a_call_raises_is_raised_where_it_is_awaited(error: BaseException) -> None:
    def fails(_: object) -> None:
        raise error

    threads = PluginThreadPool("toy", 1)
    for _ in range(3):
        with pytest.raises(type(error)):
            await threads.run(fails, None)
    assert await threads.run(lambda _: 1, None) == 1
    threads.close()


async def test_calls_wait_for_a_thread_and_too_many_are_refused() -> None:
    release = threading.Event()

    def hangs(_: object) -> None:
        release.wait()

    threads = PluginThreadPool("toy", 2)
    calls = [asyncio.create_task(threads.run(hangs, None)) for _ in range(2 + MAX_WAITING)]
    await until(lambda: place_of(waiting_frames(calls[1]))[1] == "hangs")
    with pytest.raises(PluginBusyError, match=r"its threads \(2\) are all taken"):
        await threads.run(hangs, None)
    calls.pop().cancel()
    late = asyncio.create_task(threads.run(hangs, None))
    await asyncio.sleep(0)
    assert place_of(waiting_frames(late))[1] == "hangs"
    release.set()
    await asyncio.gather(late, *calls)
    assert not threads.running
    threads.close()


async def test_a_call_whose_thread_cannot_be_started_takes_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = PluginThreadPool("toy", 1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError, match="can't start"):
            await threads.run(str, 1)
    assert not threads.running
    assert await threads.run(str, 2) == "2"
    threads.close()
