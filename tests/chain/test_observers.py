"""Observers: each decision reaches each of them, or is dropped, counted and logged."""

import asyncio
import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pexpolicy import Avatar, Conference, Continue, Outcome, Plugin, hookimpl
from pexpolicy.chain import background
from pexpolicy.chain.background import Observer, ObserverQueue, is_defect
from pexpolicy.isolation.child import ChildError
from pexpolicy.policy import Policy
from pexpolicy.testing import make_request
from tests.support import wire
from tests.support.fake_plugins import Log, Serve, always, plugin, policy
from tests.support.isolated import PluginFolder, request
from tests.support.virtual_time import virtual
from tests.support.waiting import HANG_S, until, wait_stubbornly

ROOM = Conference(name="Room", service_tag="")


def observing(function: Any, hook: str = "on_decision") -> type:
    """A plugin with this function as its one hook."""
    return type("Observer", (), {hook: staticmethod(hookimpl(function))})


def outcome(number: int, decision: Any = ROOM) -> Outcome:
    asked = make_request("service_configuration", third_party_passcode="918273")
    return Outcome(f"id-{number}", "service_configuration", asked, decision, "real", [])


class Counts(Counter[str]):
    """What became of the decisions."""

    def observed(self, plugin: str, outcome: str, count: int = 1) -> None:
        self[outcome] += count


async def delivered(notify: Any, count: int, log: Log | None = None, batch: int = 1) -> Counts:
    """Hand decisions to an observer until none waits; return what became of them."""
    counts = Counts()
    queue = ObserverQueue(Observer("toy", notify, 1.0, batch=batch), log)
    for number in range(count):
        queue.put(outcome(number), counts.observed)
    await until(lambda: not queue.pending)
    await queue.drain()
    return counts


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "MIN_RETRY_S", 0.005)
    monkeypatch.setattr(background, "MAX_RETRY_S", 0.02)
    monkeypatch.setattr(background, "DRAIN_TIMEOUT_S", 0.3)


async def test_observers_are_notified_of_every_call(serving: Serve) -> None:
    told: list[Any] = []

    async def waits(outcome: Any) -> None:
        told.append(("waits", outcome.endpoint, outcome.decided_by))

    def blocks(outcome: Any) -> None:
        told.append(("blocks", outcome.endpoint, threading.current_thread().name[:7]))

    def batch(outcomes: Any) -> None:
        told.extend(("batch", outcome.endpoint, len(outcomes)) for outcome in outcomes)

    classes = {
        "real": plugin(service_configuration=always(ROOM)),
        "one": observing(waits),
        "two": observing(blocks),
        "three": observing(batch, "on_decisions"),
    }
    async with serving(classes) as server:
        await server.ask(wire.SERVICE)
        await until(lambda: len(told) == 3)
        await server.ask(wire.LOCATION)
        await until(lambda: len(told) == 6)
    assert sorted(told) == [
        ("batch", "media_location", 1),
        ("batch", "service_configuration", 1),
        ("blocks", "media_location", "plugin-"),
        ("blocks", "service_configuration", "plugin-"),
        ("waits", "media_location", "default"),
        ("waits", "service_configuration", "real"),
    ]


async def test_an_observer_has_the_audit_line_without_secrets(serving: Serve) -> None:
    told: list[Outcome] = []

    async def observe(outcome: Any) -> None:
        told.append(outcome)

    secret = Conference(name="Room", service_tag="", pin="918273", allow_guests=False)
    classes = {"real": plugin(service_configuration=always(secret)), "observer": observing(observe)}
    async with serving(classes) as server:
        await server.ask(wire.SERVICE)
        await until(lambda: bool(told))
        (line,) = server.lines()
    told_line = json.loads(told[0].audit_line)
    assert line["sent"]["pin"] == "***"
    assert {name: line[name] for name in told_line} == told_line
    assert line.keys() - told_line.keys() == {"instance", "boot_id", "seq", "hash"}


async def test_an_observer_that_fails_or_hangs_is_named_and_delays_nothing(serving: Serve) -> None:
    async def fails(outcome: Any) -> None:
        raise ValueError("of the observer")

    async def hangs(outcome: Any) -> None:
        await asyncio.sleep(3600)

    classes = {
        "real": plugin(service_configuration=always(ROOM)),
        "fails": observing(fails),
        "hangs": observing(hangs),
    }
    async with serving(classes, {"hangs": {"timeout": 0.05}}) as server:
        for _ in range(3):
            assert (await server.ask(wire.SERVICE)).status == 200
        await until(lambda: len(server.log.events) >= 3)
    named = Counter((event["plugin"], event["event"]) for event in server.log.events)
    lost = "decisions were not delivered to an observer"
    assert 1 <= named["fails", "plugin failed"] <= 2
    assert 1 <= named["hangs", "plugin failed"] <= 2
    assert {plugin for plugin, event in named if event == lost} == {"fails", "hangs"}


async def test_one_that_fails_for_a_while_gets_all_in_order() -> None:
    told: list[str] = []
    failures = iter([OSError(), TimeoutError(), RuntimeError("down")] * 3)

    async def notify(batch: Any) -> None:
        if (error := next(failures, None)) is not None:
            raise error
        told.extend(outcome.decision_id for outcome in batch)

    log = Log()
    counts = await delivered(notify, 20, log, batch=7)
    assert told == [f"id-{number}" for number in range(20)]
    assert counts == {"delivered": 20, "failed": 9}
    assert "918273" not in str(log.events)


async def test_a_defect_is_not_repeated_and_the_next_decision_is_delivered() -> None:
    told: list[str] = []

    async def notify(batch: Any) -> None:
        if batch[0].decision_id == "id-1":
            raise KeyError("of the observer")
        told.append(batch[0].decision_id)

    log = Log()
    counts = await delivered(notify, 3, log)
    assert told == ["id-0", "id-2"]
    assert counts == {"delivered": 2, "failed": 1, "dropped": 1}
    lost = log.events[-1]
    assert (lost["plugin"], lost["dropped"], lost["error"]) == ("toy", 1, "the observer failed")


async def test_what_fails_for_too_long_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "GIVE_UP_S", 0.05)

    async def notify(batch: Any) -> None:
        if batch[0].decision_id == "id-0":
            raise OSError

    counts = await delivered(notify, 2)
    assert (counts["dropped"], counts["delivered"]) == (1, 1)


@virtual
async def test_a_full_queue_drops_and_counts_and_logs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "MAX_WAITING", 100)
    go = asyncio.Event()

    async def notify(batch: Any) -> None:
        await go.wait()

    log, counts = Log(), Counts()
    queue = ObserverQueue(Observer("toy", notify, 5.0, batch=10), log)
    queue.put(outcome(0), counts.observed)
    await asyncio.sleep(0.01)
    for number in range(1000):
        queue.put(outcome(number), counts.observed)
    assert queue.pending == 100
    assert counts == {"dropped": 901}
    (lost,) = log.events
    assert (lost["dropped"], lost["error"]) == (1, "its queue is full")
    go.set()
    await queue.drain()
    assert counts == {"dropped": 901, "delivered": 100}


@virtual
async def test_pictures_are_limited_by_their_bytes(
    monkeypatch: pytest.MonkeyPatch, picture: bytes
) -> None:
    monkeypatch.setattr(background, "MAX_WAITING_BYTES", len(picture) * 20)
    monkeypatch.setattr(background, "MAX_BATCH_BYTES", len(picture) * 3)
    sizes: list[int] = []

    async def notify(batch: Any) -> None:
        sizes.append(len(batch))

    counts = Counts()
    queue = ObserverQueue(Observer("toy", notify, 1.0, batch=100), None)
    for number in range(100):
        queue.put(outcome(number, Avatar(picture)), counts.observed)
    await until(lambda: not queue.pending)
    await queue.drain()
    assert counts["dropped"] > 50
    assert sum(sizes) == counts["delivered"] == 100 - counts["dropped"]
    assert max(sizes) <= 3


@pytest.fixture
def picture() -> bytes:
    from io import BytesIO  # noqa: PLC0415

    from PIL import Image  # noqa: PLC0415

    made = BytesIO()
    Image.new("RGB", (40, 40)).save(made, "JPEG")
    return made.getvalue()


@virtual
async def test_the_end_waits_for_a_slow_observer_and_drops_with_a_count() -> None:
    async def slow(batch: Any) -> None:
        await asyncio.sleep(0.05)

    log, counts = Log(), Counts()
    queue = ObserverQueue(Observer("toy", slow, 1.0), log)
    for number in range(100):
        queue.put(outcome(number), counts.observed)
    began = asyncio.get_running_loop().time()
    await queue.drain()
    assert asyncio.get_running_loop().time() - began > 0.25
    assert counts["delivered"] + counts["dropped"] == 100
    assert counts["delivered"] > 2
    assert log.events[-1]["dropped"] == counts["dropped"]


@virtual
async def test_the_end_leaves_no_task_of_an_observer_that_hangs() -> None:
    ended = asyncio.Event()

    async def hangs(batch: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    queue = ObserverQueue(Observer("toy", hangs, 3600.0), None)
    queue.put(outcome(0), background.ignore)
    await queue.drain()
    await asyncio.wait_for(ended.wait(), HANG_S)


@virtual
async def test_one_that_ignores_its_cancellation_runs_once_at_a_time() -> None:
    released = asyncio.Event()
    running: list[str] = []
    told: list[str] = []

    async def stubborn(batch: Any) -> None:
        running.append(batch[0].decision_id)
        assert len(running) == 1
        await wait_stubbornly(released)
        told.append(running.pop())

    log, counts = Log(), Counts()
    queue = ObserverQueue(Observer("toy", stubborn, 0.01), log)
    for number in range(2):
        queue.put(outcome(number), counts.observed)
    await until(lambda: counts["timed_out"] > 5)
    assert (queue.attempts.is_stuck, queue.pending, running) == (True, 2, ["id-0"])
    released.set()
    await until(lambda: not queue.pending)
    assert not queue.attempts.is_stuck
    await queue.drain()
    assert told == ["id-0", "id-1"]
    assert counts["delivered"] == 2


async def test_one_that_blocks_takes_one_thread_and_its_late_success_counts() -> None:
    released = threading.Event()
    told: list[str] = []

    def slow(outcome: Outcome) -> None:
        told.append(outcome.decision_id)
        released.wait(HANG_S)

    counts = Counts()
    made = policy({"toy": observing(slow)}, {"toy": {"timeout": 0.02}})
    async with made.serving():
        (queue,) = made.observers
        for number in range(2):
            queue.put(outcome(number), counts.observed)
        await until(lambda: counts["timed_out"] > 3)
        assert (told, counts["delivered"]) == (["id-0"], 0)
        released.set()
        await until(lambda: not queue.pending)
    assert told == ["id-0", "id-1"]
    assert counts["delivered"] == 2


@virtual
async def test_the_end_does_not_wait_for_one_that_ignores_its_cancellation() -> None:
    released = asyncio.Event()

    async def stubborn(outcome: Any) -> None:
        await wait_stubbornly(released)

    made = policy({"toy": observing(stubborn)})
    async with made.serving():
        made.run_background(outcome(0))
        await until(lambda: made.observers[0].pending)
        await asyncio.sleep(0)
    assert made.abandoned == ["toy"]
    assert asyncio.all_tasks() == {asyncio.current_task()}
    released.set()
    await until(lambda: not made.abandoned)


@virtual
async def test_a_reload_passes_on_what_waits() -> None:
    told: list[str] = []
    is_down = True

    async def notify(outcomes: Any) -> None:
        if is_down:
            raise OSError
        told.extend(outcome.decision_id for outcome in outcomes)

    def made() -> Policy:
        return policy({"toy": observing(notify, "on_decisions")})

    counts, first, second = Counts(), made(), made()
    refused = made()
    async with first.serving():
        for number in range(50):
            first.run_background(outcome(number), observed=counts.observed)
        refused.take_over(first)
        second.take_over(first)
        opened = second.serving()
        await opened.__aenter__()
        second.run_background(outcome(50), observed=counts.observed)
    is_down = False
    await opened.__aexit__(None, None, None)
    assert sorted(told) == sorted(f"id-{number}" for number in range(51))
    assert counts["dropped"] == 0


@virtual
async def test_reloads_that_follow_quickly_pass_on_what_waits() -> None:
    told: list[str] = []
    is_down = True

    async def notify(outcome: Any) -> None:
        if is_down:
            raise OSError
        told.append(outcome.decision_id)

    counts = Counts()
    first, second, third = (policy({"toy": observing(notify)}) for _ in range(3))
    async with first.serving():
        first.run_background(outcome(0), observed=counts.observed)
        second.take_over(first)
        async with second.serving():
            third.take_over(second)
            opened = third.serving()
            await opened.__aenter__()
    is_down = False
    await opened.__aexit__(None, None, None)
    assert told == ["id-0"]
    assert counts["dropped"] == 0


@virtual
async def test_what_waits_is_not_passed_to_a_generation_that_never_served() -> None:
    async def notify(outcome: Any) -> None:
        raise OSError

    counts, log = Counts(), Log()
    first = policy({"toy": observing(notify)}, log=log)
    async with first.serving():
        first.run_background(outcome(0), observed=counts.observed)
        policy({"toy": observing(notify)}).take_over(first)
    assert counts["dropped"] == 1
    (lost,) = [event for event in log.events if "dropped" in event]
    assert lost["error"] == "not delivered within 0.3 s of the end"


async def test_a_worker_process_observes_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    told = tmp_path / "told"
    source = f"""
    @hookimpl
    async def on_decisions(self, outcomes):
        with open({str(told)!r}, "a") as file:
            print(len(outcomes), outcomes[-1].decision_id, outcomes[0].audit_line, file=file)
        outcomes[5]
    """
    asked = request("media_location")
    made = [
        Outcome(f"id-{n}", "media_location", asked, Continue(), "x", [], audit_line=b"{}")
        for n in range(5)
    ]
    async with PluginFolder(tmp_path).serving(source) as isolated:
        with pytest.raises(ChildError) as caught:
            await isolated.hooks["on_decisions"](made)
    assert told.read_text() == "5 id-4 b'{}'\n"
    assert is_defect(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyError("x"), True),
        (UnicodeDecodeError("utf-8", b"", 0, 1, ""), True),
        (json.JSONDecodeError("", "", 0), True),
        (SystemExit(1), True),
        (ConnectionResetError(), False),
        (TimeoutError(), False),
        (RuntimeError("down"), False),
        (ChildError("KeyError: 'x'"), True),
        (ChildError("ConnectionResetError"), False),
        (ChildError("the worker process of toy ended with SIGKILL"), False),
    ],
)
def test_defects_are_distinguished_from_transient_failures(
    error: BaseException, expected: bool
) -> None:
    assert is_defect(error) is expected


def test_a_plugin_observes_one_way() -> None:
    class Both(Plugin):
        async def on_decision(self, outcome: Outcome) -> None: ...

        async def on_decisions(self, outcomes: Any) -> None: ...

    with pytest.raises(Exception, match="implement one of them"):
        policy({"both": Both})
