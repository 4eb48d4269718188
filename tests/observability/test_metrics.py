"""What is counted: each call, each plugin, each refusal, and who asked."""

import asyncio
import random
import string
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from pexpolicy import Conference, Continue, Redirect, Reject, __version__, hookimpl
from pexpolicy.audit.journal import AuditState
from pexpolicy.chain.chain import BoundHook, Chain
from pexpolicy.chain.hook_tasks import HookTasks
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.outcome import Outcome
from pexpolicy.observability import metrics
from pexpolicy.observability.metrics import MAX_NODES
from pexpolicy.observability.telemetry import (
    Nodes,
    ReloadState,
    StateSources,
    Telemetry,
    address_of,
)
from tests.support import fake_plugins, wire
from tests.support.admin_client import Metrics, metrics_of, serve_with_admin
from tests.support.fake_plugins import Hook, always, policy, raises

ROOM = Conference(name="Room", service_tag="room")


def told_by(telemetry: Telemetry) -> Metrics:
    return metrics_of(telemetry.snapshot())


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (ROOM, "continue"),
        (Continue(), "continue"),
        (Reject(), "reject"),
        (Redirect(new_alias="sip:a@example.com"), "redirect"),
        (None, "default"),
    ],
)
async def test_a_call_is_counted_by_what_its_reply_asks_for(
    tmp_path: Path, answer: object, outcome: str
) -> None:
    made = policy({"toy": fake_plugins.plugin(service_configuration=always(answer))})
    async with serve_with_admin(made, tmp_path) as server:
        for _ in range(3):
            await server.ask(wire.SERVICE)
        told = await server.metrics()
    assert told.nonzero("requests_total") == {("service_configuration", outcome): 3}
    step = "abstained" if answer is None else "decided"
    assert told.nonzero("plugin_calls_total") == {(step, "toy"): 3}
    assert told("request_duration_seconds_count", endpoint="service_configuration") == 3
    assert told("plugin_duration_seconds_count", plugin="toy") == 3
    assert told("budget_remaining_seconds_count") == 3
    assert 11 < told("budget_remaining_seconds_sum") < 12
    assert told("audit_records_total") == 3
    assert told.nonzero("fallback_total") == {}


async def slow(_: object) -> None:
    await asyncio.sleep(5)


@pytest.mark.parametrize(
    ("hook", "cause"),
    [(raises(ValueError()), "failed"), (slow, "timed_out"), (always({"name": 7}), "invalid")],
)
@pytest.mark.parametrize("on_error", ["skip", "reject"])
async def test_a_plugin_that_was_not_heard_is_the_cause_of_a_fallback(
    tmp_path: Path, hook: Hook, cause: str, on_error: str
) -> None:
    made = policy(
        {"toy": fake_plugins.plugin(service_configuration=hook)},
        {"toy": {"on_error": on_error, "timeout": 0.02}},
    )
    async with serve_with_admin(made, tmp_path) as server:
        await server.ask(wire.SERVICE)
        told = await server.metrics()
    assert told.nonzero("fallback_total") == {(cause, "service_configuration"): 1}
    assert told.nonzero("plugin_calls_total") == {(cause, "toy"): 1}
    outcome = "default" if on_error == "skip" else "reject"
    assert told.nonzero("requests_total") == {("service_configuration", outcome): 1}


async def test_an_open_breaker_shows_and_closes_again(tmp_path: Path) -> None:
    answers: list[object] = []

    async def hook(_: object) -> object:
        if not answers:
            raise ValueError
        return answers[0]

    made = policy(
        {"toy": fake_plugins.plugin(service_configuration=hook)}, {"toy": {"breaker": True}}
    )
    async with serve_with_admin(made, tmp_path) as server:
        for _ in range(6):
            await server.ask(wire.SERVICE)
        told = await server.metrics()
        assert told("plugin_breaker_open", plugin="toy") == 1
        assert told.nonzero("plugin_calls_total") == {("failed", "toy"): 5, ("skipped", "toy"): 1}
        assert told("plugin_duration_seconds_count", plugin="toy") == 5
        answers.append(ROOM)
        for link in made.links():
            assert link.breaker is not None
            link.breaker.pause = 0.0
        await server.ask(wire.SERVICE)
        assert (await server.metrics())("plugin_breaker_open", plugin="toy") == 0


async def test_what_a_shadow_would_have_done_otherwise_is_counted(tmp_path: Path) -> None:
    made = policy(
        {
            "toy": fake_plugins.plugin(
                service_configuration=always(ROOM), media_location=always(None)
            ),
            "differs": fake_plugins.plugin(service_configuration=always(Reject())),
            "agrees": fake_plugins.plugin(service_configuration=always(ROOM)),
        },
        {"differs": {"mode": "shadow"}, "agrees": {"mode": "shadow"}},
    )
    async with serve_with_admin(made, tmp_path) as server:
        await server.ask(wire.SERVICE)
        await server.ask(wire.LOCATION)
        await made._background.finish()
        told = await server.metrics()
    assert told("shadow_diff_total", plugin="differs") == 1
    assert told("shadow_diff_total", plugin="agrees") == 0
    assert told("plugin_calls_total", plugin="differs", outcome="decided") == 1
    assert told("audit_records_total") == 4


async def test_what_becomes_of_notifying_observers_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pexpolicy.chain.background.MAX_WAITING", 5)

    async def works(outcome: object) -> None:
        """See the outcome."""

    async def fails(outcome: object) -> None:
        raise ValueError("of the observer")

    async def hangs(outcome: object) -> None:
        await asyncio.Event().wait()

    made = policy(
        {
            function.__name__: type(
                "Observer", (), {"on_decision": staticmethod(hookimpl(function))}
            )
            for function in (works, fails, hangs)
        },
        {"hangs": {"timeout": 0.5}},
    )
    async with serve_with_admin(made, tmp_path) as server:
        for _ in range(20):
            await server.ask(wire.LOCATION)
        await made._background.finish()
        told = await server.metrics()
        status = await server.status()
    plugins = {plugin["name"]: plugin["observed"] for plugin in status["plugins"]}
    assert plugins == {
        "works": {"delivered": 20, "pending": 0},
        "fails": {"failed": 20, "dropped": 20, "pending": 0},
        "hangs": {"timed_out": plugins["hangs"]["timed_out"], "dropped": 20, "pending": 0},
    }
    for plugin, outcomes in plugins.items():
        assert told("observer_pending", plugin=plugin) == outcomes.pop("pending")
        for outcome, count in outcomes.items():
            assert told("observer_calls_total", plugin=plugin, outcome=outcome) == count


async def test_refusals_are_counted_by_their_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_METRICS_PASSWORD", "a password")
    made = policy({}, auth={"user": "pexip", "password_env": "TEST_METRICS_PASSWORD"})
    right = wire.basic("pexip", "a password")
    async with serve_with_admin(made, tmp_path) as server:
        await server.ask(wire.SERVICE)
        await server.ask(wire.SERVICE, headers=wire.basic("pexip", "another"))
        await server.ask(wire.SERVICE, headers=right)
        await server.ask(wire.SERVICE, method="POST")
        await server.ask("/policy/v1/policy/v1/service/configuration")
        await wire.send(server.server.port, b"nonsense\r\n\r\n")
        told = await server.metrics()
    assert told("auth_failures_total") == 2
    assert told.nonzero("refused_requests_total") == {
        ("unauthorised",): 2,
        ("method not allowed",): 1,
        ("unknown path",): 1,
        ("malformed",): 1,
    }
    assert told.nonzero("requests_total") == {("service_configuration", "default"): 1}
    assert told("audit_records_total") == 6


async def test_a_fault_of_the_server_itself_is_a_fallback_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = policy({})

    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(made, "answer", broken)
    async with serve_with_admin(made, tmp_path) as server:
        assert (await server.ask(wire.SERVICE)).status == 200
        told = await server.metrics()
    assert told.nonzero("fallback_total") == {("internal", "service_configuration"): 1}


async def test_a_fault_in_counting_costs_no_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve_with_admin(policy({}), tmp_path) as server:
        monkeypatch.setattr(server.telemetry, "answered", None)
        assert (await server.ask(wire.SERVICE)).status == 200
        assert server.server.log.events[0]["event"] == "internal fault"


async def test_nothing_that_a_caller_sends_makes_a_new_series(tmp_path: Path) -> None:
    made = policy({"toy": fake_plugins.plugin(service_configuration=always(None))})
    chance = random.Random(7)

    def word() -> str:
        return "".join(chance.choices(string.ascii_letters + string.digits + "/%.:", k=9))

    async with serve_with_admin(made, tmp_path) as server:
        before = (await server.metrics()).samples.keys()
        for _ in range(40):
            await server.ask(
                f"{wire.SERVICE}?{word()}={word()}&local_alias={word()}&node_ip={word()}"
            )
            await server.ask(
                f"/{word()}", headers={word().replace("/", "").replace(":", ""): word()}
            )
            await server.ask(wire.AVATAR + word(), method="POST")
        after = (await server.metrics()).samples.keys()
    assert after == before


durations = st.lists(st.floats(0, 9) | st.floats(0, 0.0003), max_size=30)


async def nothing(_: object) -> None:
    """Abstain."""


def ended_call(outcome: Outcome, seconds: float) -> tuple[Any, Any]:
    """A call of this duration, and its answer."""
    call = SimpleNamespace(seconds=lambda: seconds, params={}, peer=None)
    return call, SimpleNamespace(outcome=outcome, reply=SimpleNamespace(action="continue"))


@given(durations)
def test_a_bucket_holds_all_that_took_no_longer(spent: list[float]) -> None:
    telemetry = Telemetry()
    made = policy({})
    links = (BoundHook("toy", nothing, timeout=10.0),)
    vars(made)["links"] = lambda: links
    telemetry.use_policy(made)
    budget = made.settings.server.budget
    endpoint = ENDPOINTS["media_location"]
    request = endpoint.parse(MultiDict())

    async def ask_all() -> list[float]:
        tasks = HookTasks(asyncio.get_running_loop())
        outcomes = []
        for seconds in spent:
            clock = iter((0.0, seconds)).__next__
            chain = Chain(endpoint, links, Continue(), 20.0, clock)
            outcomes.append(await chain.ask(request, tasks))
            telemetry.answered(*ended_call(outcomes[-1], seconds))
        await tasks.close()
        return [outcome.steps[0].ms / 1000 for outcome in outcomes]

    asked = asyncio.run(ask_all())
    told = told_by(telemetry)
    assert told("plugin_calls_total", plugin="toy", outcome="abstained") == len(spent)
    for name, bounds, observed, labels in (
        ("request_duration_seconds", metrics.CALL_BOUNDS, spent, {"endpoint": endpoint.name}),
        ("plugin_duration_seconds", metrics.CALL_BOUNDS, asked, {"plugin": "toy"}),
        ("budget_remaining_seconds", metrics.LEFT_BOUNDS, [max(budget - s, 0) for s in spent], {}),
    ):
        for bound in bounds:
            no_longer = sum(value <= bound for value in observed)
            assert told(f"{name}_bucket", le=repr(bound), **labels) == no_longer
        assert told(f"{name}_bucket", le="+Inf", **labels) == len(observed)
        assert told(f"{name}_count", **labels) == len(observed)
        assert told(f"{name}_sum", **labels) == pytest.approx(sum(observed), abs=1e-6)


async def test_a_reload_brings_new_series_and_keeps_the_counters_of_old_ones() -> None:
    telemetry = Telemetry()
    first = policy({"old": fake_plugins.plugin(media_location=nothing)}, {"old": {"breaker": True}})
    for link in first.links():
        assert link.breaker is not None
        for _ in range(5):
            link.breaker.record_failure(1.0)
    telemetry.use_policy(first)
    told = told_by(telemetry)
    assert told.nonzero("plugin_breaker_open") == {("old",): 1}
    endpoint = ENDPOINTS["media_location"]
    tasks = HookTasks(asyncio.get_running_loop())
    chain = Chain(endpoint, tuple(first.links()), Continue(), clock=lambda: 100.0)
    outcome = await chain.ask(endpoint.parse(MultiDict()), tasks)
    await tasks.close()
    telemetry.answered(*ended_call(outcome, 0.001))
    second = policy(
        {name: fake_plugins.plugin(media_location=nothing) for name in ("new", "beside")},
        {"beside": {"mode": "shadow"}},
    )
    telemetry.use_policy(second)
    told = told_by(telemetry)
    assert told("plugin_calls_total", plugin="old", outcome="abstained") == 1
    assert told("plugin_calls_total", plugin="new", outcome="decided") == 0
    assert told("shadow_diff_total", plugin="beside") == 0
    assert told.nonzero("build_info") == {(second.policy_hash, __version__): 1}
    assert told.nonzero("plugin_breaker_open") == {}


def test_what_other_parts_know_is_sampled() -> None:
    audit = AuditState(lost=2, free_bytes=5_000_000_000_000, synced_at=1_700_000_000.25)
    not_after = datetime.fromtimestamp(1_800_000_000, UTC)
    certificate: Any = SimpleNamespace(loaded=SimpleNamespace(not_after=not_after), problem="")
    sources = StateSources(
        audit=audit,
        reload=lambda: ReloadState(last_success=1_700_000_001.5, last_successful=False),
        certificate=lambda: certificate,
        connections=lambda: 12,
    )
    telemetry = Telemetry(sources)
    told = told_by(telemetry)
    assert told("audit_lost_total") == 2
    assert told("audit_free_bytes") == 5_000_000_000_000
    assert told("audit_last_fsync_timestamp_seconds") == 1_700_000_000.25
    assert told("config_last_reload_successful") == 0
    assert told("config_last_reload_success_timestamp_seconds") == 1_700_000_001.5
    assert told("tls_cert_not_after_timestamp_seconds") == 1_800_000_000
    assert told("connections") == 12
    assert told("ready") == 1
    audit.status, audit.lost = "failed", 3
    told = told_by(telemetry)
    assert told("audit_lost_total") == 3
    assert told("ready") == 0


async def test_a_loop_that_is_held_shows_its_lag(tmp_path: Path) -> None:
    async def holds(_: object) -> None:
        time.sleep(0.5)  # noqa: ASYNC251 - it is what the test is about

    made = policy({"toy": fake_plugins.plugin(service_configuration=holds)})
    async with serve_with_admin(made, tmp_path) as server:
        await server.ask(wire.SERVICE)
        assert 0.2 < (await server.metrics())("loop_lag_seconds") < 5


def test_the_last_nodes_are_kept_and_the_most_silent_ones_forgotten() -> None:
    nodes = Nodes()
    for number in range(MAX_NODES):
        nodes.called(f"10.0.{number // 250}.{number % 250}")
    nodes.called("10.0.0.0")
    nodes.called("10.9.9.9")
    nodes.called("10.9.9.8")
    nodes.refused("10.9.9.8", "unknown path")
    found = nodes.copy()
    assert len(found) == MAX_NODES
    assert (found["10.0.0.0"].calls, found["10.9.9.9"].calls) == (2, 1)
    assert not {"10.0.0.1", "10.0.0.2"} & found.keys()
    assert (found["10.9.9.8"].refused_because, found["10.9.9.8"].calls) == ("unknown path", 1)


def test_addresses_that_are_only_refused_push_out_no_node() -> None:
    nodes = Nodes()
    nodes.refused("10.0.0.1", "unauthorised")
    nodes.called("10.0.0.1")
    for number in range(MAX_NODES + 10):
        nodes.refused(f"2001:db8::{number:x}", "unauthorised")
    nodes.refused("10.0.0.1", "unknown path")
    found = nodes.copy()
    assert len(found) == MAX_NODES
    assert (found["10.0.0.1"].calls, found["10.0.0.1"].refused_because) == (1, "unknown path")
    assert f"2001:db8::{MAX_NODES + 9:x}" in found


@pytest.mark.parametrize(
    ("sent", "address"),
    [
        ("10.44.7.5", "10.44.7.5"),
        ("2001:db8::7", "2001:db8::7"),
        ("", "192.0.2.1"),
        (None, "192.0.2.1"),
        ("x" * 49, "192.0.2.1"),
        ("\x1b[2J", "192.0.2.1"),
        ("ø", "192.0.2.1"),
    ],
)
def test_a_node_is_called_what_it_says_unless_that_is_nonsense(sent: Any, address: str) -> None:
    assert address_of(sent, "192.0.2.1") == address
