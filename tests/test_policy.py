"""A policy from its opening to its closing."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from multidict import MultiDict

from pexpolicy import Conference, hookimpl
from pexpolicy.builder import build_policy
from pexpolicy.config.settings import ConfigError
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.policy import Policy
from pexpolicy.testing import make_request
from tests.support import wire
from tests.support.fake_plugins import Serve, available, policy, settings

Lifespan = Callable[[object], AbstractAsyncContextManager[None]]


def opening(name: str, events: list[str], fails: str = "") -> type:
    """A plugin that writes down when it is opened, asked and closed; fails at one of them."""

    class Opens:
        def __init__(self, settings: object) -> None:
            self.settings = settings

        @hookimpl
        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            self.note("opened")
            try:
                yield
            finally:
                self.note("closed")

        @hookimpl
        async def service_configuration(self, request: object) -> None:
            self.note("asked")

        def note(self, event: str) -> None:
            events.append(f"{name} {event}")
            if event == fails:
                raise OSError(f"{name} cannot be {event}")

    return Opens


async def test_plugins_are_opened_in_order_and_closed_in_reverse(serving: Serve) -> None:
    events: list[str] = []
    classes = {name: opening(name, events) for name in "ab"}
    async with serving(classes) as server:
        await server.ask(wire.SERVICE)
    assert events == ["a opened", "b opened", "a asked", "b asked", "b closed", "a closed"]


async def test_a_plugin_that_does_not_open_keeps_the_policy_from_serving() -> None:
    events: list[str] = []
    classes = {
        "a": opening("a", events),
        "b": opening("b", events, fails="opened"),
        "c": opening("c", events),
    }
    made = policy(classes)
    with pytest.raises(ConfigError) as error:
        async with made.serving():
            events.append("served")
    (problem,) = error.value.problems
    assert str(problem).startswith(
        "plugins.b: b (toy-b 1.0): its lifespan failed: OSError: b cannot"
    )
    assert "served" not in events
    assert events[-1] == "a closed"


async def test_a_plugin_that_does_not_close_keeps_no_other_one_open(serving: Serve) -> None:
    events: list[str] = []
    classes = {"a": opening("a", events), "b": opening("b", events, fails="closed")}
    async with serving(classes) as server:
        await server.ask(wire.SERVICE)
        log = server.log
    assert events[-2:] == ["b closed", "a closed"]
    assert [event["plugin"] for event in log.events] == ["b"]


async def test_a_plugin_stays_open_while_its_last_call_is_answered(serving: Serve) -> None:
    """What a call needs is there until it is answered."""
    is_open = False

    class Uses:
        def __init__(self, settings: object) -> None:
            self.settings = settings

        @hookimpl
        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            nonlocal is_open
            is_open = True
            yield
            is_open = False

        @hookimpl
        async def service_configuration(self, request: object) -> Conference | None:
            return Conference(name="Open", service_tag="") if is_open else None

    async with serving({"uses": Uses}) as server:
        assert (await server.ask(wire.SERVICE)).result["name"] == "Open"
    assert not is_open


def empty() -> Policy:
    return build_policy(settings(), available=available({}))


async def test_a_policy_that_is_not_serving_answers_nothing() -> None:
    with pytest.raises(AssertionError, match="not serving"):
        await empty().answer(make_request("service_configuration"), "id")


async def test_a_policy_has_a_chain_for_each_endpoint() -> None:
    made = empty()
    assert set(made.chains) == set(wire.TARGETS)
    async with made.serving():
        for name in wire.TARGETS:
            answer = await made.answer(ENDPOINTS[name].parse(MultiDict(), "a"), "some-id")
            assert answer.outcome.decided_by == "default"
            assert b'"decision_id":"some-id"' in answer.reply.body
