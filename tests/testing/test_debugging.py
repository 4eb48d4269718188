"""Debugging with the test kit: exceptions of plugins, and calls without time limits."""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pexpolicy import Conference, DecisionError, Plugin, Reject, Request, hookimpl
from pexpolicy.background import lifespan
from pexpolicy.testing import (
    ConfigError,
    PluginStartupError,
    decide,
    decide_sync,
    make_policy,
    make_request,
)

REQUEST = make_request("service_configuration")


class Raises:
    @hookimpl
    async def service_configuration(self, request: Request) -> Conference:
        return self.find(request)

    def find(self, request: Request) -> Conference:
        raise LookupError("no such room")


class RaisesInThread:
    @hookimpl
    def service_configuration(self, request: Request) -> Conference:
        raise LookupError("no such room")


class GivesNonsense:
    @hookimpl
    async def service_configuration(self, request: Request) -> object:
        return {"service_type": "conference"}


class Waits:
    @hookimpl
    async def service_configuration(self, request: Request) -> Conference:
        await asyncio.sleep(0.2)
        return Conference(name="late", service_tag="")


class Blocks:
    @hookimpl
    def service_configuration(self, request: Request) -> Conference:
        time.sleep(0.2)
        return Conference(name="late", service_tag="")


class Next(Plugin):
    @hookimpl
    async def service_configuration(self, request: Request) -> Reject:
        return Reject(reason="asked next")


@pytest.mark.parametrize("plugin", [Raises, RaisesInThread])
def test_the_exception_of_a_plugin_is_raised_with_its_own_frames(plugin: type) -> None:
    with pytest.raises(LookupError, match="no such room") as raised:
        decide_sync([plugin, Next], REQUEST, raise_exceptions=True)
    innermost = traceback.extract_tb(raised.value.__traceback__)[-1]
    assert innermost.filename == __file__
    assert innermost.name in ("find", "service_configuration")


def test_an_invalid_answer_and_a_late_one_are_raised() -> None:
    with pytest.raises(DecisionError):
        decide_sync(GivesNonsense, REQUEST, raise_exceptions=True)
    limits = {"plugins": {"waits": {"timeout": 0.01}}}
    with pytest.raises(TimeoutError, match="waits: no answer within"):
        decide_sync(Waits, REQUEST, config=limits, raise_exceptions=True)


async def test_exceptions_are_raised_from_a_serving_policy_once() -> None:
    async with make_policy([Raises, Next]).serving() as policy:
        with pytest.raises(LookupError):
            await decide(policy, REQUEST, raise_exceptions=True)
        outcome = await decide(policy, make_request("service_configuration"))
    assert outcome.decided_by == "next"


@pytest.mark.parametrize("plugin", [Waits, Blocks])
def test_without_timeouts_no_plugin_is_late(plugin: type) -> None:
    name = plugin.__name__.lower()
    limits = {"server": {"budget": 0.02}, "plugins": {name: {"timeout": 0.01}}}
    late = decide_sync([plugin, Next], make_request("service_configuration"), config=limits)
    assert next(step.outcome for step in late.steps) == "timed_out"
    waited = decide_sync(
        [plugin, Next], make_request("service_configuration"), config=limits, timeouts=False
    )
    assert waited.decided_by == name


async def test_a_serving_policy_has_the_timeouts_that_it_was_built_with() -> None:
    limits = {"plugins": {"waits": {"timeout": 0.01}}}
    async with make_policy(Waits, config=limits, timeouts=False).serving() as policy:
        assert (await decide(policy, REQUEST)).decided_by == "waits"
        with pytest.raises(TypeError, match="a policy has its own config and timeouts"):
            await decide(policy, REQUEST, timeouts=False)


class OpensSlowly(Next):
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        await asyncio.sleep(0.2)
        yield


def test_without_timeouts_a_lifespan_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifespan, "START_TIMEOUT_S", 0.05)
    short = {"plugins": {"opens_slowly": {"timeout": 0.05}}}
    with pytest.raises(ConfigError):
        decide_sync(OpensSlowly, make_request("service_configuration"), config=short)
    outcome = decide_sync(
        OpensSlowly, make_request("service_configuration"), config=short, timeouts=False
    )
    assert outcome.decided_by == "opens_slowly"


class FailsToBuild(Next):
    def __init__(self, settings: object) -> None:
        raise LookupError("no such file")


class FailsToOpen(Next):
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        raise LookupError("no such host")
        yield


@pytest.mark.parametrize(
    ("plugin", "kind"), [(FailsToBuild, ConfigError), (FailsToOpen, PluginStartupError)]
)
def test_a_plugin_that_cannot_start_has_its_exception_as_the_cause(
    plugin: type, kind: type[ConfigError]
) -> None:
    with pytest.raises(kind) as raised:
        decide_sync([Next, plugin], REQUEST)
    assert isinstance(raised.value.__cause__, LookupError)
    frames = traceback.extract_tb(raised.value.__cause__.__traceback__)
    assert frames[-1].filename == __file__
