"""Lifespans and background work of plugins: supervised, apart from each other, and visible."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pexpolicy import Conference, Refreshed, hookimpl
from pexpolicy.background.lifespan import Lifespan
from pexpolicy.config.settings import PluginStartupError
from pexpolicy.testing import decide, make_policy, make_request
from tests.support.admin_client import serve_with_admin
from tests.support.fake_plugins import Log, policy
from tests.support.virtual_time import virtual
from tests.support.waiting import HANG_S, until, wait_stubbornly

SERVICE = make_request("service_configuration")
Background = Callable[[], Coroutine[None, None, None]]


async def dies() -> None:
    await asyncio.sleep(0.01)
    raise TypeError("a number is no list")


def starting(background: Background) -> type:
    """A plugin whose lifespan starts a task and holds it, as asyncio's documentation advises."""

    class Starts:
        @hookimpl
        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            task = asyncio.create_task(background(), name="poll")
            yield
            task.cancel()

        @hookimpl
        async def service_configuration(self, request: object) -> Conference:
            return Conference(name="Sales", service_tag="sales")

    return Starts


class Group:
    @hookimpl
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(dies())
            yield

    @hookimpl
    async def service_configuration(self, request: object) -> None:
        return None


class Open:
    is_open = False

    @hookimpl
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self.is_open = True
        yield
        self.is_open = False

    @hookimpl
    async def service_configuration(self, request: object) -> Conference | None:
        return Conference(name="Open", service_tag="") if self.is_open else None


async def test_a_task_that_dies_is_named_at_once_in_log_status_and_metrics(tmp_path: Path) -> None:
    log = Log()
    served = policy({"starts": starting(dies), "open": Open}, log=log)
    async with serve_with_admin(served, tmp_path) as server:
        await until(lambda: log.events)
        (event,) = log.events
        assert (event["event"], event["plugin"], event["what"]) == (
            "plugin failed",
            "starts",
            "its task poll ended",
        )
        assert event["error"].startswith("TypeError: a number is no list")
        assert "in dies" in event["traceback"]
        metrics = await server.metrics()
        assert metrics("plugin_background_failures", plugin="starts") == 1
        assert metrics("plugin_background_failures", plugin="open") == 0
        first, second = (await server.status())["plugins"]
        assert first["failures"][0].startswith("its task poll ended: TypeError: a number")
        assert second["failures"] == []
        assert (await decide(served, SERVICE)).decided_by == "starts"


async def test_a_task_group_that_fails_ends_no_lifespan_of_another_plugin() -> None:
    log = Log()
    async with policy({"group": Group, "open": Open}, log=log).serving() as served:
        await until(lambda: log.events)
        assert log.events[0]["plugin"] == "group"
        assert "with TypeError: a number is no list" in log.events[0]["traceback"]
        assert served.lifespans["group"].failures[0].startswith("its lifespan ended: Exception")
        assert (await decide(served, SERVICE)).decided_by == "open"


async def cancelled() -> None:
    asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)  # type: ignore[union-attr]
    await asyncio.sleep(1)


async def retrieved() -> None:
    for _ in range(2):
        try:
            await asyncio.wait_for(dies(), HANG_S)
        except TypeError:
            continue
    await asyncio.gather(dies(), dies(), return_exceptions=True)


@pytest.mark.parametrize("background", [cancelled, retrieved])
async def test_a_failure_that_a_plugin_handles_is_not_reported(background: Background) -> None:
    log = Log()
    async with policy({"starts": starting(background)}, log=log).serving() as served:
        await asyncio.sleep(0.2)
        assert served.lifespans["starts"].failures == []
    assert log.events == []


class Vips:
    """A plugin with data that its lifespan opens the client for."""

    def __init__(self, answers: list[object] | None = None, **options: Any) -> None:
        self.answers = answers or []
        self.client = ""
        self.events: list[str] = []
        self.vips = Refreshed(self.fetch, every=60, name="list", **options)

    async def fetch(self) -> str:
        self.events.append(f"fetched with {self.client or 'nothing'}")
        if not self.answers:
            raise OSError("the API is down")
        return str(self.answers.pop(0))

    @hookimpl
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self.client = "a client"
        yield
        self.events.append(f"closed, {'open' if self.vips.is_open else 'closed'} data")

    @hookimpl
    async def service_configuration(self, request: object) -> Conference:
        return Conference(name=self.vips.value, service_tag="vips")


class Keeps:
    def __init__(self, data: Refreshed[str]) -> None:
        self.data = data

    @hookimpl
    async def service_configuration(self, request: object) -> None:
        """Abstain."""


async def test_data_is_open_inside_of_the_lifespan() -> None:
    vips = Vips(["Sales"])
    outcome = await decide(vips, SERVICE)
    assert outcome.decision == Conference(name="Sales", service_tag="vips")
    assert vips.events == ["fetched with a client", "closed, closed data"]


async def test_a_plugin_may_open_its_data_in_its_lifespan() -> None:
    class Opens(Vips):
        @hookimpl
        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            async with self.vips as data:
                self.events.append(f"has {data.value}")
                yield

    vips = Opens(["Sales", "never"])
    assert (await decide(vips, SERVICE)).decided_by == "opens"
    assert vips.events == ["fetched with nothing", "has Sales"]


@pytest.mark.parametrize("begins", [True, False])
@virtual
async def test_a_lifespan_that_ignores_its_cancellation_holds_nothing_up(*, begins: bool) -> None:
    released, closed = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def stubborn() -> AsyncIterator[None]:
        if not begins:
            await wait_stubbornly(released)
        yield
        if begins:
            await wait_stubbornly(released)
        closed.set()

    lifespan = Lifespan("toy", stubborn(), None)
    if begins:
        await lifespan.open()
    else:
        with pytest.raises(TimeoutError, match="not open after 22 s; it suppresses"):
            await lifespan.open()
    await lifespan.close()
    (failure,) = lifespan.failures
    assert "not closed after 4 s" in failure
    released.set()
    await closed.wait()


@virtual
async def test_data_has_its_own_time_in_addition_to_that_of_a_lifespan() -> None:
    async def rows() -> str:
        await asyncio.sleep(25)
        return "rows"

    data = Refreshed(rows, every=60, timeout=30)
    async with make_policy(Keeps(data)).serving():
        assert data.value == "rows"


async def test_required_data_that_cannot_be_fetched_keeps_the_policy_from_serving() -> None:
    made = make_policy(Vips())
    with pytest.raises(PluginStartupError) as refused:
        async with made.serving():
            pass
    (problem,) = refused.value.problems
    assert problem.key == ("plugins", "vips")
    assert "its data list could not be fetched: OSError: the API is down" in problem.text


async def test_without_data_a_call_fails_and_on_error_decides() -> None:
    outcome = await decide(Vips(first="stale"), SERVICE)
    assert [step.outcome for step in outcome.steps] == ["failed"]


async def test_status_and_metrics_show_the_age_of_data(tmp_path: Path) -> None:
    vips = Vips(["Sales"])
    made = make_policy(vips)
    async with serve_with_admin(made, tmp_path) as server:
        (plugin,) = (await server.status())["plugins"]
        assert plugin["data"].keys() == {"list"}
        assert 0 <= plugin["data"]["list"]["age"] < 5
        assert plugin["data"]["list"]["problem"] is None
        with pytest.raises(OSError, match="down"):
            await vips.vips.refresh()
        (plugin,) = (await server.status())["plugins"]
        assert plugin["data"]["list"]["problem"].startswith("OSError: the API is down")
        metrics = await server.metrics()
        labels = {"plugin": "vips", "data": "list"}
        assert 0 < metrics("data_age_seconds", **labels) < 5
        assert metrics("data_interval_seconds", **labels) == 60
        server.telemetry.use_policy(make_policy(Open))
        assert not (await server.metrics()).nonzero("data_age_seconds")


async def test_the_next_policy_takes_over_data_of_the_same_plugin() -> None:
    old, new, other = (Vips(["Sales"], key="url"), Vips(key="url"), Vips(key="url"))
    async with make_policy({"vips": old}).serving() as first:
        second = make_policy({"vips": new})
        second.take_over(first)
        async with second.serving() as served:
            assert (await decide(served, SERVICE)).decided_by == "vips"
        elsewhere = make_policy({"people": other})
        elsewhere.take_over(first)
        with pytest.raises(PluginStartupError):
            async with elsewhere.serving():
                pass
