"""One configuration after the other: who decides which call, and when plugins close."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy import Conference, hookimpl
from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.policy import Policy
from pexpolicy.server.generations import Build, Reloader, generation_of
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.testing import make_request
from tests.support import fake_plugins
from tests.support.fake_plugins import Log, open_audit
from tests.support.virtual_time import frozen


@pytest.fixture(autouse=True)
def _nothing_is_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test program holds so much that a collection takes longer than a call may."""
    monkeypatch.setattr("gc.collect", lambda: None)


class Barrier:
    """Keeps calls waiting until it is opened."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    async def passed(self) -> None:
        await self._event.wait()

    async def let_all_pass(self) -> None:
        self._event.set()
        self._event = asyncio.Event()
        await settled()


async def settled() -> None:
    """Until nothing happens any more by itself."""
    for _ in range(30):
        await asyncio.sleep(0)


def numbered(number: int, life: list[str], barrier: Barrier, fails: bool = False) -> type:
    """A plugin that answers with its number once the barrier is open, and notes its life."""

    class Numbered:
        def __init__(self, settings: object) -> None:
            assert self is not settings

        @hookimpl
        @asynccontextmanager
        async def lifespan(self) -> Any:
            if fails:
                raise OSError("it does not open")
            life.append(f"open {number}")
            yield
            life.append(f"close {number}")

        @hookimpl
        async def service_configuration(self, request: object) -> Conference:
            await barrier.passed()
            return Conference(name=str(number), service_tag="x")

    return Numbered


def never(_: bytes | None) -> Policy:
    raise ZeroDivisionError


async def begun(
    life: list[str], barrier: Barrier, build: Build = never
) -> tuple[PolicyApp, Reloader]:
    first = generation_of(
        fake_plugins.policy({"toy": numbered(0, life, barrier)}), open_audit(Path("/dev/null"))
    )
    await first.open()
    service = PolicyApp(first, Log())
    return service, Reloader(first, build, service.activate)


async def asked(service: PolicyApp) -> str:
    """A call as the service makes it: with one generation from its beginning to its end."""
    generation = service.generation
    generation.in_flight += 1
    try:
        answer = await generation.policy.answer(make_request("service_configuration"), "an id")
    finally:
        generation.end_call()
    return str(answer.outcome.decision.set_fields()["name"])


@given(st.lists(st.sampled_from(["call", "swap", "answer"]), max_size=20))
def test_each_call_keeps_its_configuration_and_each_generation_closes_after_its_last_call(
    events: list[str],
) -> None:
    async def live() -> None:
        life: list[str] = []
        barrier = Barrier()
        service, generations = await begun(life, barrier)
        number = 0
        calls: list[tuple[int, asyncio.Task[str]]] = []
        for event in events:
            if event == "call":
                calls.append((number, asyncio.create_task(asked(service))))
            elif event == "swap":
                number += 1
                policy = fake_plugins.policy({"toy": numbered(number, life, barrier)})
                successor = generation_of(policy, open_audit(Path("/dev/null")))
                await successor.open()
                generations.commit(successor)
            else:
                await barrier.let_all_pass()
            await settled()
            busy = {begun for begun, task in calls if not task.done()}
            closed = {int(line.split()[1]) for line in life if line.startswith("close")}
            assert not busy & closed
            assert number not in closed
        await barrier.let_all_pass()
        for begun_with, call in calls:
            assert await call == str(begun_with)
        await generations.close()
        assert sorted(life) == sorted(
            f"{w} {n}" for w in ("open", "close") for n in range(number + 1)
        )

    async def live_in_no_time() -> None:
        with frozen():
            await live()

    asyncio.run(live_in_no_time())


async def test_a_configuration_that_does_not_open_changes_nothing() -> None:
    life: list[str] = []
    made = fake_plugins.policy({"toy": numbered(1, life, Barrier(), fails=True)})
    service, reloader = await begun(life, Barrier(), lambda _: made)
    before = service.generation
    result = await reloader.reload()
    (problem,) = result.problems
    assert "plugins.toy" in problem
    assert "its lifespan failed: OSError: it does not open" in problem
    assert service.generation is before
    assert not reloader.state.last_successful
    assert reloader.state.problems == result.problems
    await reloader.close()
    assert life == ["open 0", "close 0"]


async def test_a_reload_says_what_changed_in_the_plugins() -> None:
    def rooms(*names: str) -> Policy:
        tables = {name: {"name": name} for name in names}
        document = {"plugins": {"rooms": {"settings": {"rooms": tables}}}}
        return build_policy(from_document(document, Path("config.toml")))

    first = generation_of(rooms("a", "b"), open_audit(Path("/dev/null")))
    await first.open()
    service = PolicyApp(first, Log())
    reloader = Reloader(first, lambda _: rooms("b", "c"), service.activate)
    assert (await reloader.reload()).changes == (
        "configuration: changed plugins.rooms.settings.rooms",
        "rooms: added c",
        "rooms: removed a",
    )
    assert (await reloader.reload()).changes == ()
    await reloader.close()


async def test_a_fault_of_ours_is_a_refusal_too() -> None:
    _, reloader = await begun([], Barrier())
    result = await reloader.reload()
    assert "ZeroDivisionError" in result.problems[0]
    await reloader.close()
