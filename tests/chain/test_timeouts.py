"""A plugin has its time and the call its budget: what is late does not count."""

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from pexpolicy import Conference, Reject
from pexpolicy.chain.hook_tasks import MAX_WAITING
from tests.support import wire
from tests.support.fake_plugins import Hook, Serve, always, plugin
from tests.support.virtual_time import advance, clock, virtual

ROOM = Conference(name="Next", service_tag="")


async def sleeps(*_: object) -> object:
    await asyncio.sleep(10)
    return ROOM


@pytest.fixture
def blocks() -> Iterator[Hook]:
    release = threading.Event()

    def hook(_: object) -> object:
        release.wait()
        return ROOM

    yield hook
    release.set()


@virtual
async def test_a_late_plugin_is_abandoned_at_its_timeout(serving: Serve) -> None:
    classes = {
        "late": plugin(service_configuration=sleeps),
        "next": plugin(service_configuration=always(ROOM)),
    }
    async with serving(classes, {"late": {"timeout": 0.5}}, clock=clock) as server:
        began = clock()
        reply = await server.ask(wire.SERVICE)
        assert clock() - began == pytest.approx(0.5)
        assert reply.result["name"] == "Next"
        assert server.steps() == [("late", "timed_out"), ("next", "decided")]
        assert re.fullmatch(
            r"no answer within 0.5 s \(test_timeouts.py:\d+ in sleeps\)", server.details()
        )
        assert server.lines()[-1]["steps"][0]["ms"] == pytest.approx(500, abs=1)


@pytest.mark.parametrize("endpoint", list(wire.TARGETS))
@virtual
async def test_a_late_plugin_whose_on_error_is_reject_refuses(
    serving: Serve, endpoint: str
) -> None:
    classes = {"late": plugin(**{endpoint: sleeps})}
    async with serving(classes, {"late": {"on_error": "reject"}}, clock=clock) as server:
        began = clock()
        reply = await server.ask(wire.TARGETS[endpoint])
        assert clock() - began == pytest.approx(1.0)
        assert reply.json["reason"] == "late was late, and its on_error is reject"
        assert server.lines()[-1]["action"] in ("reject", "continue")


@virtual
async def test_the_budget_ends_the_asking(serving: Serve) -> None:
    classes = {name: plugin(service_configuration=sleeps) for name in "abcde"}
    tables = {name: {"timeout": 1.5} for name in classes}
    async with serving(classes, tables, clock=clock, server={"budget": 4.0}) as server:
        began = clock()
        reply = await server.ask(wire.SERVICE)
        assert clock() - began == pytest.approx(4.0)
        assert reply.json["decided_by"] == "default"
        late = [(name, "timed_out") for name in "abc"]
        assert server.steps() == [*late, ("d", "skipped"), ("e", "skipped")]
        assert "no answer within 1 s" in server.details()


@virtual
async def test_time_is_kept_for_plugins_that_restrict(serving: Serve) -> None:
    classes = {name: plugin(service_configuration=sleeps) for name in "abcde"}
    classes["limits"] = plugin(restrict_service_configuration=always(Reject(reason="full")))
    classes["sleeps"] = plugin(restrict_service_configuration=sleeps)
    tables = {name: {"timeout": 1.5} for name in classes}
    async with serving(classes, tables, clock=clock, server={"budget": 4.0}) as server:
        began = clock()
        reply = await server.ask(wire.SERVICE)
        assert clock() - began == pytest.approx(4.0)
        assert (reply.json["decided_by"], reply.json["reason"]) == ("limits", "full")
        late = [("a", "timed_out"), ("b", "timed_out"), *((name, "skipped") for name in "cde")]
        assert server.steps() == [*late, ("limits", "adjusted"), ("sleeps", "timed_out")]


@virtual
async def test_a_plugin_that_is_not_asked_for_lack_of_time_may_still_refuse(serving: Serve) -> None:
    classes = {
        "late": plugin(registration_alias=sleeps),
        "careless": plugin(registration_alias=always(None)),
        "registrar": plugin(registration_alias=always(None)),
    }
    tables = {"late": {"timeout": 2.0}, "registrar": {"on_error": "reject"}}
    async with serving(classes, tables, clock=clock, server={"budget": 1.0}) as server:
        reply = await server.ask(wire.REGISTRATION + "a@example.com")
        assert reply.action == "reject"
        assert reply.json["decided_by"] == "registrar"
        assert [outcome for _, outcome in server.steps()] == ["timed_out", "skipped", "skipped"]


@pytest.mark.parametrize("answer", [ROOM, None])
@virtual
async def test_an_answer_that_comes_late_without_awaiting_does_not_count(
    serving: Serve, answer: object
) -> None:
    async def computes(_: object) -> object:
        advance(1.25)
        return answer

    hooks = {"service_configuration": computes, "registration_alias": computes}
    classes = {"slow": plugin(**hooks), "next": plugin(service_configuration=always(None))}
    async with serving(classes, clock=clock) as server:
        assert (await server.ask(wire.SERVICE)).result is None
        assert server.steps() == [("slow", "timed_out"), ("next", "abstained")]
    async with serving(classes, {"slow": {"on_error": "reject"}}, clock=clock) as server:
        assert (await server.ask(wire.REGISTRATION + "a@b")).action == "reject"


@virtual
async def test_a_blocking_hook_is_abandoned_at_its_timeout(serving: Serve, blocks: Hook) -> None:
    classes = {
        "stuck": plugin(service_configuration=blocks),
        "next": plugin(service_configuration=always(ROOM)),
    }
    async with serving(classes, clock=clock) as server:
        began = clock()
        reply = await server.ask(wire.SERVICE)
        assert clock() - began == pytest.approx(1.0)
        assert reply.result["name"] == "Next"
        assert server.steps() == [("stuck", "timed_out"), ("next", "decided")]


@virtual
async def test_a_call_waits_for_a_thread_within_its_timeout_and_too_many_are_refused(
    serving: Serve, blocks: Hook
) -> None:
    classes = {"stuck": plugin(registration_alias=blocks)}
    table = {"threads": 2, "timeout": 0.1, "on_error": "reject"}
    async with serving(classes, {"stuck": table}, clock=clock) as server:
        began = clock()
        target = wire.REGISTRATION + "a@b"
        replies = await asyncio.gather(*(server.ask(target) for _ in range(MAX_WAITING + 5)))
        assert clock() - began == pytest.approx(0.1)
        assert {reply.action for reply in replies} == {"reject"}
        steps = Counter(line["steps"][0]["outcome"] for line in server.lines())
        assert steps == {"busy": 3, "timed_out": MAX_WAITING + 2}
        late = [line["steps"][0] for line in server.lines()]
        late = [one["detail"] for one in late if one["outcome"] == "timed_out"]
        assert all("test_timeouts.py" in one or "conftest.py" in one for one in late), late
