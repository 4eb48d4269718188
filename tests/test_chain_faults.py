"""A plugin that fails is one failed step, blamed by name; its `on_error` says what follows."""

import asyncio
import threading
from typing import Any

import pytest

from pexpolicy import Alias, Conference, Credentials, Reject
from tests import wire
from tests.toys import Hook, Serve, always, plugin, raises
from tests.virtual_time import advance, clock, virtual

ROOM = Conference(name="Next", service_tag="")


class BrokenText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


FAULTS: list[BaseException] = [
    ValueError("said by the plugin"),
    KeyError("missing"),
    OSError(111, "Connection refused"),
    AssertionError(),
    SystemExit(3),
    KeyboardInterrupt(),
    asyncio.CancelledError(),
    GeneratorExit(),
    RecursionError("maximum recursion depth exceeded"),
    MemoryError(),
    StopIteration(1),
    StopAsyncIteration(),
    TimeoutError("of the plugin's own"),
    ExceptionGroup("several", [ValueError("one"), ValueError("two")]),
    BaseExceptionGroup("worse", [KeyboardInterrupt()]),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
    BrokenText(),
]


def blocking(error: BaseException) -> Hook:
    def hook(_: object) -> object:
        raise error

    return hook


def behind_a_wait(error: BaseException) -> Hook:
    async def hook(_: object) -> object:
        await asyncio.sleep(0)
        raise error

    return hook


@pytest.mark.parametrize("raising", [raises, blocking, behind_a_wait])
@pytest.mark.parametrize("error", FAULTS, ids=lambda error: type(error).__name__)
async def test_whatever_a_plugin_raises_is_one_failed_step_of_its_own(
    serving: Serve, raising: Any, error: BaseException
) -> None:
    classes = {
        "before": plugin(service_configuration=always(None)),
        "broken": plugin(service_configuration=raising(error)),
        "next": plugin(service_configuration=always(ROOM)),
    }
    async with serving(classes) as server:
        for _ in range(2):
            reply = await server.ask(wire.SERVICE)
            assert reply.result["name"] == "Next"
            assert server.steps() == [
                ("before", "abstained"),
                ("broken", "failed"),
                ("next", "decided"),
            ]
        assert type(error).__name__ in server.details()
        assert {event["plugin"] for event in server.log.events} == {"broken"}


@pytest.mark.parametrize("endpoint", list(wire.TARGETS))
@pytest.mark.parametrize("on_error", ["skip", "reject"])
async def test_on_error_says_what_follows_on_each_endpoint(
    serving: Serve, endpoint: str, on_error: str
) -> None:
    classes = {
        "broken": plugin(**{endpoint: raises(ValueError())}),
        "next": plugin(**{endpoint: always(None)}),
    }
    async with serving(classes, {"broken": {"on_error": on_error}}) as server:
        reply = await server.ask(wire.TARGETS[endpoint])
        if on_error == "skip":
            assert server.steps() == [("broken", "failed"), ("next", "abstained")]
            assert reply.json["decided_by"] == "default"
            return
        assert server.steps() == [("broken", "failed")]
        assert reply.json["decided_by"] == "broken"
        assert reply.json["reason"] == "broken failed, and its on_error is reject"
        if endpoint in ("media_location", "participant_avatar"):
            assert reply.status == 404
        elif endpoint == "directory_information":
            assert (reply.result, reply.json["ignore_local"]) == ([], True)
        else:
            assert (reply.status, reply.action) == (200, "reject")
            assert not reply.result


WRONG: list[tuple[str, object]] = [
    ("service_configuration", "Engineering"),
    ("service_configuration", True),
    ("service_configuration", False),
    ("service_configuration", 0),
    ("service_configuration", ""),
    ("service_configuration", []),
    ("service_configuration", {}),
    ("service_configuration", Conference),
    ("service_configuration", object()),
    ("service_configuration", Alias("a@b")),
    ("service_configuration", Credentials(username="u", password="p")),
    ("service_configuration", {"service_type": "conferense", "name": "A", "service_tag": ""}),
    ("service_configuration", {"service_type": "conference", "service_tag": ""}),
    ("service_configuration", {"name": "A", "service_tag": ""}),
    ("service_configuration", {1: 2}),
    ("participant_properties", ROOM),
    ("participant_properties", {"preauthenticated_role": "host"}),
    ("media_location", Reject()),
    ("media_location", "Oslo"),
    ("media_location", {}),
    ("participant_avatar", Reject()),
    ("participant_avatar", b""),
    ("participant_avatar", b"not a picture"),
    ("participant_avatar", {"image": b""}),
    ("directory_information", [{"alias": "a"}]),
    ("directory_information", [{"alias": "a", "description": "A"}]),
    ("directory_information", ["a"]),
    ("directory_information", Reject()),
    ("registration_alias", {"username": "", "password": ""}),
    ("registration_alias", {"username": "u"}),
]


@pytest.mark.parametrize(("endpoint", "answer"), WRONG)
@pytest.mark.parametrize("on_error", ["skip", "reject"])
async def test_an_answer_that_infinity_would_drop_is_never_sent(
    serving: Serve, endpoint: str, answer: object, on_error: str
) -> None:
    classes = {
        "wrong": plugin(**{endpoint: always(answer)}),
        "next": plugin(**{endpoint: always(None)}),
    }
    async with serving(classes, {"wrong": {"on_error": on_error}}) as server:
        reply = await server.ask(wire.TARGETS[endpoint])
        assert server.steps()[0] == ("wrong", "invalid")
        assert server.details()
        if on_error == "skip":
            assert server.steps()[1] == ("next", "abstained")
        else:
            assert reply.json["reason"].startswith("wrong gave an invalid answer")


async def test_an_answer_that_has_to_be_awaited_again_is_a_wrong_one(serving: Serve) -> None:
    def forgets(request: object) -> object:
        return asyncio.sleep(0, result=request)

    async with serving({"forgets": plugin(service_configuration=forgets)}) as server:
        with pytest.warns(RuntimeWarning, match="never awaited"):
            await server.ask(wire.SERVICE)
        assert server.steps() == [("forgets", "invalid")]
        assert "coroutine" in server.details()


async def sleeps(_: object) -> object:
    await asyncio.sleep(10)
    return ROOM


@virtual
async def test_a_late_plugin_is_left_behind_at_its_timeout(serving: Serve) -> None:
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
        assert server.details() == "no answer within 0.5 s"
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
async def test_a_plugin_that_is_not_asked_for_lack_of_time_may_still_refuse(
    serving: Serve,
) -> None:
    classes = {
        "late": plugin(registration_alias=sleeps),
        "careless": plugin(registration_alias=always(None)),
        "guard": plugin(registration_alias=always(None)),
    }
    tables = {"late": {"timeout": 2.0}, "guard": {"on_error": "reject"}}
    async with serving(classes, tables, clock=clock, server={"budget": 1.0}) as server:
        reply = await server.ask(wire.REGISTRATION + "a@example.com")
        assert reply.action == "reject"
        assert reply.json["decided_by"] == "guard"
        assert [outcome for _, outcome in server.steps()] == ["timed_out", "skipped", "skipped"]


@virtual
async def test_an_answer_that_comes_late_without_awaiting_does_not_count(serving: Serve) -> None:
    async def computes(_: object) -> object:
        advance(1.25)
        return ROOM

    classes = {
        "slow": plugin(service_configuration=computes),
        "next": plugin(service_configuration=always(None)),
    }
    async with serving(classes, clock=clock) as server:
        reply = await server.ask(wire.SERVICE)
        assert reply.result is None
        assert server.steps() == [("slow", "timed_out"), ("next", "abstained")]


@virtual
async def test_an_abstention_that_comes_late_is_a_fault_all_the_same(serving: Serve) -> None:
    async def computes(_: object) -> object:
        advance(1.25)
        return None

    classes = {"slow": plugin(registration_alias=computes)}
    async with serving(classes, {"slow": {"on_error": "reject"}}, clock=clock) as server:
        assert (await server.ask(wire.REGISTRATION + "a@b")).action == "reject"


@virtual
async def test_a_blocking_hook_is_left_behind_at_its_timeout(serving: Serve) -> None:
    release = threading.Event()

    def blocks(_: object) -> object:
        release.wait()
        return ROOM

    classes = {
        "stuck": plugin(service_configuration=blocks),
        "next": plugin(service_configuration=always(ROOM)),
    }
    try:
        async with serving(classes, clock=clock) as server:
            began = clock()
            reply = await server.ask(wire.SERVICE)
            assert clock() - began == pytest.approx(1.0)
            assert reply.result["name"] == "Next"
            assert server.steps() == [("stuck", "timed_out"), ("next", "decided")]
    finally:
        release.set()


@virtual
async def test_a_plugin_whose_threads_are_all_stuck_is_busy_at_once(serving: Serve) -> None:
    release = threading.Event()

    def blocks(_: object) -> object:
        release.wait()
        return ROOM

    classes = {
        "stuck": plugin(service_configuration=blocks),
        "other": plugin(service_configuration=always(ROOM)),
    }
    table = {"threads": 2, "timeout": 0.1}
    try:
        async with serving(classes, {"stuck": table}, clock=clock) as server:
            for _ in range(2):
                await server.ask(wire.SERVICE)
                assert server.steps()[0] == ("stuck", "timed_out")
            began = clock()
            reply = await server.ask(wire.SERVICE)
            assert clock() == began
            assert reply.result["name"] == "Next"
            assert server.steps() == [("stuck", "busy"), ("other", "decided")]
            assert "all 2 threads" in server.details()
    finally:
        release.set()


@virtual
async def test_a_busy_plugin_whose_on_error_is_reject_refuses(serving: Serve) -> None:
    release = threading.Event()

    def blocks(_: object) -> None:
        release.wait()

    table = {"threads": 1, "timeout": 0.1, "on_error": "reject"}
    classes = {"stuck": plugin(registration_alias=blocks)}
    try:
        async with serving(classes, {"stuck": table}, clock=clock) as server:
            await server.ask(wire.REGISTRATION + "a@b")
            reply = await server.ask(wire.REGISTRATION + "a@b")
            assert reply.action == "reject"
            assert reply.json["reason"] == "stuck was busy, and its on_error is reject"
    finally:
        release.set()


async def test_a_fault_is_logged_without_the_variables_of_the_plugin(serving: Serve) -> None:
    async def fails(_: object) -> object:
        pin = "4711" * 2
        raise ValueError(f"{len(pin)} digits")

    async with serving({"toy": plugin(service_configuration=fails)}) as server:
        await server.ask(wire.SERVICE)
        (event,) = server.log.events
        assert event["hook"] == "service_configuration"
        assert event["error"].startswith("ValueError: 8 digits (test_chain_faults.py:")
        assert any("test_chain_faults.py" in line for line in event["traceback"])
        assert "4711" not in str(event)
