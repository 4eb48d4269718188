"""Refreshed data: fetching, failures, hand-over at a reload, and the file for the next start."""

import asyncio
import json
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pexpolicy import AliasMap, AliasSet, DataUnavailableError, Refreshed
from pexpolicy.background.refreshed import CacheFileError
from pexpolicy.files import CacheFile
from tests.support.fake_plugins import Log
from tests.support.virtual_time import clock, virtual
from tests.support.waiting import wait_stubbornly


class Service:
    """Something to fetch from, with answers in order; the last one is repeated."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.calls: list[float] = []

    async def fetch(self) -> Any:
        self.calls.append(asyncio.get_running_loop().time())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer):
            answer = await answer()
        if isinstance(answer, BaseException):
            raise answer
        return answer


def data(
    service: Service, every: float = 60.0, log: Log | None = None, **options: Any
) -> Refreshed[Any]:
    options = {"jitter": 0.0, "clock": clock, **options}
    made = Refreshed(service.fetch, every=every, **options)
    if log is not None:
        made.bind("vips", log)
    return made


def pauses(service: Service) -> list[float]:
    return [round(b - a, 2) for a, b in pairwise(service.calls)]


@virtual
async def test_data_is_fetched_at_the_start_and_again_each_interval() -> None:
    service = Service("one", "two", "three")
    async with data(service) as refreshed:
        assert (refreshed.value, refreshed.age) == ("one", 0)
        await asyncio.sleep(59)
        assert (refreshed.value, round(refreshed.age)) == ("one", 59)
        await asyncio.sleep(2)
        assert (refreshed.value, round(refreshed.age)) == ("two", 1)
        await asyncio.sleep(60)
        assert refreshed.value == "three"
    await asyncio.sleep(500)
    assert pauses(service) == [60, 60]


@virtual
async def test_jitter_shortens_the_interval_and_never_lengthens_it() -> None:
    service = Service("one")
    async with data(service, jitter=0.5):
        await asyncio.sleep(900)
    assert all(30 <= pause <= 60 for pause in pauses(service))
    assert len(set(pauses(service))) > 5


@virtual
async def test_the_last_value_stays_and_attempts_back_off_to_a_bound() -> None:
    service = Service("one", *[OSError("down")] * 8, "two")
    log = Log()
    async with data(service, log=log, max_backoff=10.0) as refreshed:
        await asyncio.sleep(60.5)
        assert refreshed.value == "one"
        assert refreshed.problem.startswith("OSError: down")
        await asyncio.sleep(60)
        assert (refreshed.value, refreshed.problem) == ("two", "")
    assert pauses(service) == [60, 1, 2, 4, 8, 10, 10, 10, 10]
    events = [(event["event"], event["plugin"], event["data"]) for event in log.events]
    assert events == [("data was not refreshed", "vips", "data")]


@virtual
async def test_a_fetch_is_late_after_its_timeout_and_is_cancelled() -> None:
    ended = []

    async def hang() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append("cancelled")

    service = Service("one", hang)
    async with data(service, timeout=5.0) as refreshed:
        await asyncio.sleep(66)
        assert ended == ["cancelled"]
        assert refreshed.problem == "TimeoutError: no answer within 5 s"
        assert refreshed.value == "one"


@virtual
async def test_a_fetch_that_ignores_its_cancellation_is_not_started_twice() -> None:
    async def stubborn() -> str:
        for _ in range(10):
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                continue
        return "late"

    service = Service("one", stubborn)
    async with data(service, timeout=1.0) as refreshed:
        await asyncio.sleep(80)
        assert len(service.calls) == 2
        assert refreshed.value == "one"


@virtual
async def test_a_fetch_that_ignores_its_cancellation_does_not_keep_the_server() -> None:
    released = asyncio.Event()

    async def stubborn() -> str:
        await wait_stubbornly(released)
        return "late"

    log = Log()
    async with data(Service("one", stubborn), log=log, timeout=1.0):
        await asyncio.sleep(60.5)
    assert log.events[-1]["event"] == "a run did not end"
    assert asyncio.all_tasks() == {asyncio.current_task()}
    released.set()
    await asyncio.sleep(1)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
@virtual
async def test_whatever_a_fetch_raises_is_a_failure_of_the_fetch(error: BaseException) -> None:
    service = Service("one", error, "two")
    async with data(service) as refreshed:
        await asyncio.sleep(60.5)
        assert (refreshed.value, refreshed.failures) == ("one", 1)
        await asyncio.sleep(1)
        assert refreshed.value == "two"


@virtual
async def test_required_data_is_not_opened_without_a_fetch() -> None:
    refreshed = data(Service(OSError("down")), name="list")
    with pytest.raises(DataUnavailableError, match=r"list could not be fetched: OSError: down"):
        await refreshed.open()
    assert not refreshed.is_open


@virtual
async def test_stale_data_is_opened_without_any() -> None:
    service = Service(OSError("down"), "one")
    async with data(service, first="stale", name="list") as refreshed:
        with pytest.raises(DataUnavailableError, match="list has no value yet: OSError: down"):
            _ = refreshed.value
        assert refreshed.report() == {"age": None, "every": 60.0, "problem": refreshed.problem}
        await asyncio.sleep(30)
        assert refreshed.value == "one"


@virtual
async def test_refresh_fetches_at_once_and_raises_what_the_fetch_raises() -> None:
    service = Service("one", "two", OSError("down"))
    async with data(service) as refreshed:
        await asyncio.gather(refreshed.refresh())
        assert refreshed.value == "two"
        with pytest.raises(OSError, match="down"):
            await refreshed.refresh()


@pytest.mark.parametrize(
    ("key", "name", "first", "passes"),
    [
        ("url", "data", "stale", True),
        ("url", "data", "required", True),
        ("other", "data", "stale", False),
        ("url", "other", "stale", False),
        (None, "data", "stale", False),
    ],
)
@virtual
async def test_the_last_value_passes_to_data_of_the_same_name_and_key(
    key: str | None, name: str, first: Any, passes: bool
) -> None:
    async with data(Service("one"), key=key and "url") as old:
        await asyncio.sleep(20)
        service = Service(OSError("down"))
        new = data(service, key=key, name=name, first=first)
        new.take_over(old)
        async with new:
            if passes:
                assert (new.value, round(new.age)) == ("one", 20)
                assert service.calls == []
                await asyncio.sleep(45)
                assert len(service.calls) > 1
                assert new.value == "one"
            else:
                with pytest.raises(DataUnavailableError):
                    _ = new.value


@virtual
async def test_required_data_that_is_older_than_its_interval_is_fetched() -> None:
    async with data(Service("one", OSError()), key="url") as old:
        await asyncio.sleep(70)
        new = data(Service(OSError("down")), key="url")
        new.take_over(old)
        with pytest.raises(DataUnavailableError):
            await new.open()


def cached(path: Path, kind: Any = dict[str, int], **options: Any) -> dict[str, Any]:
    return {"file": CacheFile(path, kind), "key": "url", **options}


async def keep(path: Path, every: float = 60, key: str = "url") -> None:
    async with Refreshed(Service({"a": 1}).fetch, every=every, **cached(path, key=key)):
        pass


async def test_the_last_value_is_kept_in_a_file_for_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    await keep(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["list.json"]  # noqa: PTH208
    down = Service(OSError("down"))
    async with Refreshed(down.fetch, every=60, **cached(path)) as refreshed:
        assert refreshed.value == {"a": 1}
        assert 0 <= refreshed.age < 30
    assert down.calls == []


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (AliasMap[tuple[int, int]], AliasMap({"sip:Bob@Example.com": (8, 16)})),
        (dict[str, AliasSet], {"vips": AliasSet(["sip:Bob@Example.com"])}),
    ],
)
def test_aliases_are_kept_as_they_were_written(tmp_path: Path, kind: Any, value: Any) -> None:
    file: CacheFile[Any] = CacheFile(tmp_path / "list.json", kind)
    file.save(value, "key", 0.0)
    assert "sip:Bob@Example.com" in file.path.read_text()
    assert file.load("key") == (value, 0.0)
    with pytest.raises(CacheFileError, match="is of another type"):
        file.save({"bob": 8}, "key", 0.0)


@pytest.mark.parametrize("kind", [Service, dict[str, Service], 5])
def test_a_file_of_a_type_that_cannot_be_json_is_refused(tmp_path: Path, kind: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot hold .*: write a type that pydantic knows"):
        CacheFile(tmp_path / "list.json", kind)


async def test_an_old_file_is_used_where_stale_data_may_be(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    await keep(path, every=0.05)
    await asyncio.sleep(0.06)
    down = Service(OSError("down"))
    with pytest.raises(DataUnavailableError):
        await Refreshed(down.fetch, every=0.05, **cached(path)).open()
    async with Refreshed(down.fetch, every=0.05, **cached(path, first="stale")) as refreshed:
        assert refreshed.value == {"a": 1}


def other_type(path: Path) -> None:
    CacheFile(path, list[str]).save(["a"], "data\nurl", 0.0)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "of another type": other_type,
    "empty": lambda path: path.write_bytes(b""),
    "a folder": folder,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
async def test_a_damaged_file_is_ignored_with_a_warning(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "list.json"
    await keep(path)
    damage(path)
    log = Log()
    async with data(Service({"c": 3}), log=log, **cached(path)) as refreshed:
        assert refreshed.value == {"c": 3}
    assert log.events[0]["event"] == "the file of data is ignored"
    assert "list.json" in log.events[0]["error"]


async def test_a_file_of_another_key_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    await keep(path)
    down = Service(OSError("down"))
    with pytest.raises(DataUnavailableError):
        await Refreshed(down.fetch, every=60, **cached(path, key="other")).open()


@pytest.mark.parametrize(
    ("value", "problem"), [({"a": object()}, "of another type"), ({"a": 1}, "FileNotFoundError")]
)
async def test_a_file_that_cannot_be_written_is_reported_and_the_value_used(
    value: Any, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "list.json" if problem != "FileNotFoundError" else tmp_path / "no" / "list"
    log = Log()
    async with data(Service(value), log=log, **cached(path)) as refreshed:
        assert refreshed.value == value
    assert [event["event"] for event in log.events] == ["data was not kept in its file"]
    assert problem in str(log.events)
    assert os.listdir(tmp_path) == []  # noqa: PTH208


async def test_a_file_never_holds_the_key(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    key = "https://user:secret@example.com"
    await keep(path, key=key)
    assert "secret" not in path.read_text()
    assert json.loads(path.read_bytes())["value"] == {"a": 1}


@virtual
async def test_calls_of_refresh_at_one_time_share_the_next_fetch() -> None:
    async def slow() -> float:
        await asyncio.sleep(0.2)
        return asyncio.get_running_loop().time()

    service = Service("first", slow)
    async with data(service) as refreshed:
        running = asyncio.create_task(refreshed.refresh())
        await asyncio.sleep(0.1)
        asked = asyncio.get_running_loop().time()
        late = asyncio.create_task(refreshed.refresh())
        await asyncio.gather(*(refreshed.refresh() for _ in range(10)))
        await asyncio.gather(running, late)
        # The fetch that ran already may have had older data.
        assert refreshed.value >= asked + 0.2
    assert len(service.calls) == 3


@virtual
async def test_a_fetch_that_is_ended_by_closing_is_no_failure() -> None:
    async def slow() -> None:
        await asyncio.sleep(5)

    log = Log()
    async with data(Service("one", slow), log=log) as refreshed:
        await asyncio.sleep(62)
    assert (refreshed.failures, log.events) == (0, [])


async def test_a_caller_that_is_cancelled_ends_no_fetch_of_others() -> None:
    async def slow() -> str:
        await asyncio.sleep(0.05)
        return "new"

    async with Refreshed(Service("old", slow).fetch, every=60) as refreshed:
        first, second = (asyncio.create_task(refreshed.refresh()) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        await second
        assert refreshed.value == "new"


@pytest.mark.parametrize(
    "options",
    [{"every": 0}, {"timeout": 0}, {"max_backoff": 0}, {"jitter": 1.0}, {"file": "unkeyed"}],
)
def test_impossible_options_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    if "file" in options:
        options = {"file": CacheFile(tmp_path / "x", int)}
    with pytest.raises(ValueError, match=r"above 0|below 1|needs a key"):
        data(Service(1), **options)
