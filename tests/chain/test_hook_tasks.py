"""A hook runs in an ordinary asyncio task."""

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
import uvloop
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker

from pexpolicy import Conference, hookimpl
from pexpolicy.policy import Policy
from pexpolicy.server.process import run
from pexpolicy.testing import make_request
from tests.support.fake_plugins import plugin, policy
from tests.support.task_scenarios import OPEN, SCENARIOS, SOON, VARIABLE, Seen, me

ROOM = Conference(name="Room", service_tag="")
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
Scenario = Callable[[Seen], Coroutine[Any, Any, None]]
UNLIMITED = {"time_limits": False}
"""No hook is late, however busy the machine is."""


class Abstains:
    """The hook of this plugin has no ``await`` in it."""

    def __init__(self, settings: object) -> None:
        """Need nothing."""

    @hookimpl
    async def service_configuration(self, request: object) -> None:
        """Abstain."""


async def asked(served: Policy, alias: str) -> tuple[str, str]:
    """What came of the last plugin that was asked."""
    request = make_request("service_configuration", local_alias=alias)
    answer = await served.answer(request, "id")
    step = answer.outcome.steps[-1]
    return step.outcome, step.detail


async def in_a_task(scenario: Scenario) -> Seen:
    seen: Seen = []
    task = asyncio.create_task(scenario(seen))
    await asyncio.wait((task,))
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    seen.insert(0, "ended" if error is None else type(error).__name__)
    await asyncio.sleep(3 * SOON)
    return seen


async def in_a_hook(scenario: Scenario, before: int) -> Seen:
    """The same by a policy that has answered calls before; a call that comes after it is heard."""
    seen: Seen = []

    async def hook(request: Any) -> object:
        if request.local_alias == "scenario":
            await scenario(seen)
        else:
            await asyncio.sleep(SOON)
        return ROOM

    classes = {"first": Abstains, "toy": plugin(service_configuration=hook), "last": Abstains}
    served = policy(classes, options=UNLIMITED)
    async with served.serving():
        for _ in range(before):
            assert await asked(served, "another") == ("decided", "")
        request = make_request("service_configuration", local_alias="scenario")
        answer = await served.answer(request, "id")
        _, step, *_ = answer.outcome.steps
        name = re.match(r"\w+", step.detail)
        seen.insert(0, "ended" if step.outcome == "decided" or name is None else name[0])
        assert await asked(served, "another") == ("decided", "")
        await asyncio.sleep(2 * SOON)
        assert served.abandoned == []
    return seen


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda found: found.__name__)
def test_what_works_in_a_task_works_in_a_hook(scenario: Scenario, loop: str) -> None:
    def result(work: Coroutine[Any, Any, Seen]) -> Seen:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            try:
                return runner.run(work)
            finally:
                OPEN.clear()

    expected = result(in_a_task(scenario))
    assert len(expected) > 1
    assert result(in_a_hook(scenario, before=0)) == expected
    assert result(in_a_hook(scenario, before=3)) == expected


def alone(*hooks: Any) -> dict[str, type]:
    """Plugins whose hooks are these functions themselves."""
    made = {}
    for number, hook in enumerate(hooks):
        methods = {"__init__": Abstains.__init__, "service_configuration": hookimpl(hook)}
        made[f"plugin_{number}"] = type("Toy", (), methods)
    return made


async def test_a_cancellation_left_by_a_hook_without_a_wait_hits_no_other_one() -> None:
    async def cached(self: object, request: Any) -> None:
        asyncio.get_running_loop().call_later(SOON / 2, me().cancel)

    async def cached_or_not(self: object, request: Any) -> None:
        await cached(self, request)

    async def waits(self: object, request: Any) -> Conference:
        await asyncio.sleep(2 * SOON)
        return ROOM

    served = policy(alone(cached, cached_or_not, waits), options=UNLIMITED)
    async with served.serving():
        for _ in range(3):
            assert await asked(served, "a") == ("decided", "")


async def test_a_hook_without_a_wait_has_a_current_task_and_variables_of_its_own() -> None:
    async def cancels(self: object, request: Any) -> None:
        assert (VARIABLE.get(), me().get_name() != "", me().cancel()) == ("unset", True, True)
        VARIABLE.set("a hook's")

    served = policy(alone(cancels))
    async with served.serving():
        for _ in range(2):
            assert await asked(served, "a") == ("abstained", "")
    assert (VARIABLE.get(), me().cancelling()) == ("unset", 0)


async def test_what_is_abandoned_is_remembered_until_it_ends() -> None:
    go_on, ended = asyncio.Event(), asyncio.Event()

    async def stubborn(self: object, request: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await go_on.wait()
            ended.set()

    served = policy(alone(stubborn), {"plugin_0": {"timeout": SOON}})
    async with served.serving():
        assert (await asked(served, "a"))[0] == "timed_out"
        assert served.abandoned == ["plugin_0.service_configuration"]
        go_on.set()
        await ended.wait()
        await asyncio.sleep(0)
        assert served.abandoned == []


@pytest.mark.parametrize("turns", range(4))
async def test_a_call_that_is_cancelled_at_any_moment_leaves_no_task(turns: int) -> None:
    asking = 0

    async def waits(self: object, request: Any) -> Conference:
        nonlocal asking
        asking += 1
        try:
            await asyncio.sleep(60 if request.local_alias == "given up" else 0)
        finally:
            asking -= 1
        return ROOM

    served = policy(alone(waits))
    async with served.serving():
        call = asyncio.create_task(asked(served, "given up"))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait((call,))
        for _ in range(3):
            await asyncio.sleep(0)
        assert (asking, served.abandoned, call.cancelled()) == (0, [], True)
        assert await asked(served, "another") == ("decided", "")


async def test_sessions_kept_by_task_are_not_shared_between_calls() -> None:
    sessions = async_scoped_session(async_sessionmaker(), scopefunc=asyncio.current_task)
    made: list[AsyncSession] = []

    async def asks(self: object, request: Any) -> None:
        made.append(sessions())

    served = policy(alone(asks))
    async with served.serving():
        for _ in range(5):
            await asked(served, "a")
    assert len({id(session) for session in made}) == 5


async def test_a_variable_is_seen_by_hooks_that_share_its_task_and_by_nothing_else() -> None:
    found: list[str] = []

    async def sets(self: object, request: Any) -> None:
        found.append(VARIABLE.get())
        VARIABLE.set("set")

    async def may_wait(self: object, request: Any) -> None:
        found.append(VARIABLE.get())
        await asyncio.sleep(0)

    served = policy(alone(sets, sets, may_wait, sets))
    async with served.serving():
        for _ in range(2):
            found.clear()
            await asked(served, "a")
            assert found == ["unset", "set", "unset", "unset"]
            assert VARIABLE.get() == "unset"


def test_threads_of_anyio_serve_many_calls() -> None:
    threads: list[threading.Thread] = []

    async def blocks(self: object, request: Any) -> None:
        threads.append(await anyio.to_thread.run_sync(threading.current_thread))

    async def main() -> None:
        served = policy(alone(blocks))
        async with served.serving():
            for _ in range(20):
                await asked(served, "a")

    run(main())
    assert len(threads) == 20
    assert len(set(threads)) < 3


def test_whatever_cancels_all_tasks_does_not_end_a_server() -> None:
    async def main() -> str:
        for _ in range(3):
            for task in asyncio.all_tasks():
                task.cancel()
            await asyncio.sleep(0.001)
        return "served"

    assert run(main()) == "served"
