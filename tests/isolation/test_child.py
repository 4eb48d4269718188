"""Whatever a child process does, its parent gets an answer or one kind of error."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import msgspec
import pytest

from pexpolicy.chain.hook_tasks import PluginBusyError
from pexpolicy.isolation.child import (
    MAX_FRAME,
    Channel,
    Child,
    ChildError,
    ChildPool,
)
from tests.support.isolated import descriptors
from tests.support.processes import is_running, wait_for_end
from tests.support.waiting import HANG_S, until

MODULE = "tests.support.child_main"


def make(*arguments: str, **options: Any) -> Child[Any]:
    return Child("the child", MODULE, *arguments, decode=msgspec.msgpack.decode, **options)


def pool_of(size: int, **options: Any) -> ChildPool[Child[Any]]:
    return ChildPool("the children", size, lambda: make(**options), max_waiting=1)


async def asked(pool: ChildPool[Any], message: object, seconds: float = HANG_S) -> Any:
    async with pool.borrow() as child:
        return await child.ask(message, seconds)


FAILURES = [
    (["exit", 3], ChildError, "the child ended with exit code 3"),
    (["exit", 0], ChildError, "the child ended with exit code 0"),
    ("hang", TimeoutError, "^"),
    ("junk", ChildError, "the child sent a message that is too long"),
    ("long", ChildError, "the child sent a message that is too long"),
]


@pytest.mark.parametrize(("message", "error", "text"), FAILURES)
async def test_a_failure_is_one_error_and_leaves_nothing(
    message: object, error: type[Exception], text: str
) -> None:
    before = descriptors()
    child = make()
    child.limit = 50
    await child.ready()
    assert await child.ask("hello") == [child.pid, "hello"]
    with pytest.raises(error, match=text):
        await child.ask(message, 0.5 if error is TimeoutError else HANG_S)
    await child.end()
    assert not is_running(child.pid)
    assert descriptors() == before


async def test_a_message_to_a_child_has_no_limit() -> None:
    child = make()
    await child.ready()
    sent = ["size", bytes(MAX_FRAME + 1)]
    assert await child.ask(sent, HANG_S) == MAX_FRAME + 1
    await child.end()


async def test_an_unexpected_message_ends_the_child() -> None:
    child = make()
    await child.ready()
    assert await child.ask("twice") == 1
    await asyncio.to_thread(wait_for_end, child.pid)
    await child.end()


async def test_the_environment_of_a_child(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("X_OWN", "1")
    for environment, seen in ((None, ["/nowhere", "1"]), ({}, [None, None])):
        child = make("--an", "argument", environment=environment, flags=("-W", "ignore"))
        await child.ready()
        assert await child.ask("environment") == [["--an", "argument"], *seen]
        assert await child.ask("print") == ""
        await child.end()
    assert capfd.readouterr() == ("", "printed\nprinted\n")


async def test_a_child_outlives_signals_to_the_group_but_not_its_parent() -> None:
    program = (
        f"import asyncio, msgspec; from pexpolicy.isolation.child import Child\n"
        f"async def main():\n"
        f"    c = Child('c', {MODULE!r}, decode=msgspec.msgpack.decode); await c.ready()\n"
        f"    print((await c.ask(1))[0], flush=True); await c.ask('hang')\n"
        "asyncio.run(main())"
    )
    path = os.pathsep.join(p or "." for p in sys.path)
    with subprocess.Popen(  # noqa: ASYNC220 - it is waited for in a thread
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, signal.SIGINT)
        assert os.getpgid(pid) == pid
        assert is_running(pid)
        parent.kill()
        parent.wait()
        await asyncio.to_thread(wait_for_end, pid)


async def test_a_pool_replaces_children_that_fail_and_has_a_queue() -> None:
    pool = pool_of(1)
    await pool.open()
    pid = (await asked(pool, 1))[0]
    with pytest.raises(TimeoutError):
        await asked(pool, "hang", 0.1)
    waiting = asyncio.create_task(asked(pool, 2))
    await asyncio.sleep(0)
    with pytest.raises(PluginBusyError, match="all 1 workers are busy, and 1 calls are waiting"):
        await asked(pool, 3)
    after, number = await waiting
    assert (number, after != pid) == (2, True)
    assert pool.restarts == 1
    os.kill(after, signal.SIGKILL)
    await until(lambda: pool.restarts == 2)
    assert (await asked(pool, 4))[1] == 4
    await pool.close()
    assert not pool.children
    assert not is_running(after)


async def test_a_child_that_cannot_start_fails_calls_at_once_between_attempts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pexpolicy.isolation.child.MIN_RESTART_DELAY_S", 60.0)
    modules = iter([MODULE])

    class Asked(Child[Any]):
        async def ready(self) -> None:
            await super().ready()
            await self.ask("ready")

    def made() -> Asked:
        module = next(modules, "no_such_module")
        return Asked("the child", module, decode=msgspec.msgpack.decode)

    pool = ChildPool("the children", 1, made)
    await pool.open()
    with pytest.raises(ChildError, match="ended with exit code 7"):
        await asked(pool, ["exit", 7])
    with pytest.raises(ChildError, match="the children cannot be started again: the child ended"):
        await asked(pool, 1)
    with pytest.raises(ChildError, match="cannot be started again"):
        await asked(pool, 1)
    await pool.close()


@pytest.mark.parametrize("size", [200_000_000, 4_000_000_000])
async def test_too_much_memory_ends_a_child(size: int) -> None:
    pool = pool_of(1, memory_mb=100)
    await pool.open()
    pid = (await asked(pool, 1))[0]
    with pytest.raises(ChildError, match=r"used \d+ MiB .* its memory_mb is 100|exit code 1"):
        await asked(pool, ["keep", size])
    assert (await asked(pool, 1))[0] != pid
    await pool.close()


async def test_memory_is_not_measured_on_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[str] = set()
    monkeypatch.setattr(Child, "excess", lambda _: threads.add(threading.current_thread().name))
    pool = pool_of(1, memory_mb=100)
    await pool.open()
    assert (await asked(pool, 7))[1] == 7
    await until(lambda: threads)
    await pool.close()
    assert threads == {"pexpolicy-memory"}


async def test_a_channel_speaks_to_a_connection_of_the_standard_library() -> None:
    ours, theirs = socket.socketpair()
    channel: Channel[Any] = Channel("the other", ours, msgspec.msgpack.decode)
    other = Connection(theirs.detach())
    await channel.attach()

    def answer() -> list[object]:
        seen: list[object] = []
        with suppress(EOFError, ConnectionError):
            while True:
                seen.append(msgspec.msgpack.decode(other.recv_bytes()))
                other.send_bytes(msgspec.msgpack.encode(["answer", seen[-1]]))
        return seen

    answering = asyncio.create_task(asyncio.to_thread(answer))
    for number in range(3):
        assert await channel.ask(number) == ["answer", number]
    channel.send("the last")
    channel.close()
    assert await answering == [0, 1, 2, "the last"]
    other.close()
    await asyncio.sleep(0)
    with pytest.raises(ConnectionResetError):
        await channel.ask(1)
