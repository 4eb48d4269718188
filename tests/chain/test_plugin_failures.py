"""A plugin that fails is one failed step, blamed by name; its `on_error` says what follows."""

import asyncio
import re
from typing import Any

import pytest

from pexpolicy import (
    Alias,
    Conference,
    Continue,
    Credentials,
    Decision,
    Reject,
    ServiceConfigurationRequest,
)
from pexpolicy.chain.chain import Chain
from pexpolicy.chain.hook_tasks import HookTasks
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.errors import MAX_TEXTS, PluginFailureLog, describe_error
from pexpolicy.testing import make_request
from tests.support import wire
from tests.support.fake_plugins import Hook, Log, Serve, always, plugin, raises

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


def after_a_wait(error: BaseException) -> Hook:
    async def hook(_: object) -> object:
        await asyncio.sleep(0)
        raise error

    return hook


@pytest.mark.parametrize("raising", [raises, blocking, after_a_wait])
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
        # On a busy machine the watchdog may have seen the server hold the event loop.
        named = {event["plugin"] for event in server.log.events}
        assert named - {"the server"} == {"broken"}


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


WRONG: dict[str, list[object]] = {
    "service_configuration": [
        *("Engineering", True, False, 0, "", [], {}, {1: 2}, Conference, object(), Alias("a@b")),
        Credentials(username="u", password="p"),
        {"service_type": "conferense", "name": "A", "service_tag": ""},
        {"service_type": "conference", "service_tag": ""},
        {"name": "A", "service_tag": ""},
    ],
    "participant_properties": [ROOM, {"preauthenticated_role": "host"}],
    "media_location": [Reject(), "Oslo", {}],
    "participant_avatar": [Reject(), b"", b"not a picture", {"image": b""}],
    "directory_information": [[{"alias": "a"}], [{"alias": "a", "username": "A"}], ["a"], Reject()],
    "registration_alias": [{"username": "", "password": ""}, {"username": "u"}],
}


@pytest.mark.parametrize(("endpoint", "answer"), [(e, a) for e in WRONG for a in WRONG[e]])
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


async def test_a_fault_is_logged_without_the_variables_of_the_plugin(serving: Serve) -> None:
    async def fails(_: object) -> object:
        pin = "4711" * 2
        raise ValueError(f"{len(pin)} digits")

    async with serving({"toy": plugin(service_configuration=fails)}) as server:
        await server.ask(wire.SERVICE)
        (event,) = server.log.events
        assert event["hook"] == "service_configuration"
        assert event["error"].startswith("ValueError: 8 digits (test_plugin_failures.py:")
        assert "test_plugin_failures.py" in event["traceback"]
        assert "47114711" not in str(event)


async def test_each_failure_is_logged_once_a_minute_and_few_of_one_place(serving: Serve) -> None:
    errors = [ValueError("one"), ValueError("two"), KeyError("one"), ValueError("one")]
    errors += [ValueError(f"no answer of 10.44.7.{number}:8443") for number in range(9)]
    errors += [ValueError(f"no room {chr(97 + number)}") for number in range(26)]
    left = list(errors)

    async def fails(_: object) -> object:
        raise left.pop(0)

    async with serving({"toy": plugin(service_configuration=fails)}) as server:
        for _ in errors:
            await server.ask(wire.SERVICE)
            assert server.steps()[0][1] == "failed"
        texts = [event["error"].partition(" (")[0] for event in server.log.events]
        assert texts[:3] == ["ValueError: one", "ValueError: two", "KeyError: 'one'"]
        assert texts[3:5] == ["ValueError: no answer of 10.44.7.0:8443", "ValueError: no room a"]
    assert len(texts) == len(server.log.events) == MAX_TEXTS + 2


def test_a_line_about_a_failing_plugin_counts_the_calls_since_the_last_one() -> None:
    log = Log()
    failures = PluginFailureLog(log, "media_location")
    report = describe_error(ValueError("down"))
    for second in (0.0, 1.0, 59.0, 60.0, 61.0):
        failures.failed("plugin failed", "toy", report, second)
    assert [event.get("times") for event in log.events] == [None, 3]


async def test_a_late_plugin_is_logged_once_a_minute(serving: Serve) -> None:
    async def waits(_: object) -> object:
        return await asyncio.Event().wait()

    slow = {"toy": {"timeout": 0.01}}
    async with serving({"toy": plugin(service_configuration=waits)}, slow) as server:
        for _ in range(3):
            await server.ask(wire.SERVICE)
            assert server.steps() == [("toy", "timed_out")]
        (first,) = server.log.events
        assert first["event"] == "plugin was late"
        assert re.fullmatch(r"no answer within 0.01 s \(test_.*py:\d+ in waits\)", first["error"])
    assert server.log.events == [first]


async def test_the_passcode_in_an_invalid_answer_is_in_no_detail(serving: Serve) -> None:
    def hook(request: ServiceConfigurationRequest) -> object:
        return {"service_type": request.params["third_party_passcode"]}

    async with serving({"toy": plugin(service_configuration=hook)}) as server:
        await server.ask(f"{wire.SERVICE}?third_party_passcode=hunter2")
        assert server.steps() == [("toy", "invalid")]
        assert "hunter2" not in server.details() + str(server.log.events)


async def test_an_undeclared_parameter_and_a_password_are_in_no_report(serving: Serve) -> None:
    def hook(request: ServiceConfigurationRequest) -> object:
        raise KeyError(request.params)

    query = "access_token=hunter2&remote_alias=sip:a:letmein@b"
    async with serving({"toy": plugin(service_configuration=hook)}) as server:
        await server.ask(f"{wire.SERVICE}?{query}")
        report = server.details() + str(server.log.events)
    assert "access_token" in report
    assert "sip:a:***@b" in report
    assert not any(secret in report for secret in ("hunter2", "letmein"))


def makes(**fields: Any) -> Hook:
    async def hook(_: object) -> object:
        return Conference(**fields)

    return hook


async def test_a_decision_that_is_none_is_blamed_on_its_line(serving: Serve) -> None:
    made = makes(name="A", service_tag="", pin="918x73")
    async with serving({"toy": plugin(service_configuration=made)}) as server:
        await server.ask(wire.SERVICE)
        assert server.steps() == [("toy", "invalid")]
        assert re.search(r"\. \(test_plugin_failures\.py:[0-9]+\)$", server.details())
        (event,) = server.log.events
        assert (event["event"], event["plugin"]) == ("plugin gave an invalid answer", "toy")
        assert event["hook"] == "service_configuration"
        assert re.fullmatch(
            r"Conference\.pin: must be 4 to 20 [^;]* \(test_plugin_failures\.py:[0-9]+\)",
            event["error"],
        )
        assert "in hook" in event["traceback"]
        assert "918x73" not in str(event) + server.details()


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "Jane's room", "service_tag": "", "ivr_theme_name": "Jane's own theme"},
        {"name": "Jane's room" * 50, "service_tag": ""},
        {"name": "X", "service_tag": "", "participant_limit": "918273"},
        {"name": "X", "service_tag": "", "guest_pin": 918273},
        {"name": "X", "service_tag": "", "crypto_mode": "Jane"},
    ],
)
async def test_no_value_of_a_decision_is_on_standard_error(
    serving: Serve, fields: dict[str, Any]
) -> None:
    classes = {"toy": plugin(service_configuration=makes(**fields))}
    async with serving(classes, infinity={"themes": ["Company"]}) as server:
        await server.ask(wire.SERVICE)
        (event,) = server.log.events
        assert (
            "test_plugin_failures.py" in str(event) or "the value is not listed" in event["error"]
        )
        assert "Jane" not in str(event)
        assert "918273" not in str(event)


async def test_a_plain_dictionary_has_no_line(serving: Serve) -> None:
    async with serving({"toy": plugin(service_configuration=always({}))}) as server:
        await server.ask(wire.SERVICE)
        (event,) = server.log.events
        assert "traceback" not in event
        assert not server.details().endswith(")")


def test_a_line_about_a_busy_plugin_counts_the_calls_since_the_last_one() -> None:
    log = Log()
    told = PluginFailureLog(log, "media_location")
    for second in range(0, 130, 2):
        told.step("toy", "busy", "all threads are taken", float(second))
        told.step("toy", "skipped", "the budget was gone", float(second))
    told.step("other", "busy", "all threads are taken", 130.0)
    line = {"event": "plugin was busy", "hook": "media_location", "error": "all threads are taken"}
    assert log.events == [
        {**line, "plugin": "toy"},
        {**line, "plugin": "toy", "times": 30},
        {**line, "plugin": "toy", "times": 30},
        {**line, "plugin": "other"},
    ]


def changed(decision: Decision) -> Hook:
    """A hook whose decision is another one than was checked."""

    async def hook(_: object) -> object:
        object.__setattr__(decision, "result", b'{"preauthenticated_role":"chair"}')
        return decision

    return hook


@pytest.mark.parametrize("decision", [Reject(), ROOM.with_warnings(), Continue()])
async def test_a_decision_that_was_changed_is_one_invalid_step(
    serving: Serve, decision: Decision
) -> None:
    classes = {"toy": plugin(service_configuration=changed(decision))}
    async with serving(classes, {"toy": {"on_error": "reject"}}) as server:
        reply = await server.ask(wire.SERVICE)
    assert reply.json["action"] == "reject"
    assert "result" not in reply.json
    assert server.steps() == [("toy", "invalid")]


async def test_a_decision_that_is_changed_later_refuses_the_call() -> None:
    default = Continue()
    object.__setattr__(default, "reason", b"changed")
    request = make_request("service_configuration")
    chain = Chain(ENDPOINTS["service_configuration"], (), default)
    outcome = await chain.ask(request, HookTasks(asyncio.get_running_loop()))
    assert outcome.decision == Reject()
    assert outcome.decision.reason == "the decision of default was changed meanwhile"
