"""A reload of several workers: all of them, or none, and those that join while one is under way."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.server.reload_triggers import ReloadResult
from pexpolicy.server.workers import Message, ReloadCoordinator
from tests.server.test_generations import settled

NEW, OLD = "new", "old"
FATES = ["prepares", "refuses", "dies preparing", "dies committing", "read other"]
BAD = Message("refused", result=ReloadResult(OLD, problems=("it is bad",), files=("rules.csv",)))
COMMITTED = Message("committed", result=ReloadResult(NEW, files=("config.toml",)))


class Worker:
    """A worker that meets its fate, and what it serves; it answers in its turn."""

    def __init__(self, fate: str, turn: int = 0) -> None:
        self.fate = fate
        self.turn = turn
        self.policy_hash = OLD
        self.alive = True
        self.waits = False

    async def ask(self, message: Message) -> Message:
        for _ in range(self.turn):
            await asyncio.sleep(0)
        if message.kind == "prepare" and self.fate == "refuses":
            return BAD
        if message.kind == "prepare" and self.fate != "dies preparing":
            self.waits = True
            return Message(
                "prepared", result=ReloadResult("other" if self.fate == "read other" else NEW)
            )
        if message.kind == "commit" and self.fate != "dies committing":
            self.policy_hash, self.waits = NEW, False
            return COMMITTED
        self.alive = False
        raise ConnectionResetError

    def send(self, message: Message) -> None:
        assert message.kind == "abandon"
        self.waits = False


def reloaded(*workers: Any) -> ReloadResult:
    def living() -> list[Any]:
        return [worker for worker in workers if worker.alive]

    coordinator = ReloadCoordinator(Path(__file__), b"", living, ReloadResult(OLD))
    return asyncio.run(coordinator.reload())


@given(st.lists(st.sampled_from(FATES), max_size=5), st.data())
def test_the_living_all_serve_what_the_result_says(fates: list[str], data: st.DataObject) -> None:
    turns = data.draw(st.permutations(range(len(fates))))
    workers = [Worker(fate, turn) for fate, turn in zip(fates, turns, strict=True)]
    result = reloaded(*workers)
    living = [worker for worker in workers if worker.alive]
    assert not any(worker.waits for worker in living)
    if result.done:
        assert living
        assert result.policy_hash == NEW
    else:
        assert result.policy_hash == OLD
    assert {worker.policy_hash for worker in living} <= {NEW if result.done else OLD}


class ObedientWorker:
    """A worker that does what it is told once the test lets it."""

    def __init__(self) -> None:
        self.policy_hash = OLD
        self.asked: list[tuple[Message, asyncio.Future[Message]]] = []

    async def ask(self, message: Message) -> Message:
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.asked.append((message, answer))
        return await answer

    def send(self, message: Message) -> None:
        """Nothing comes of it."""

    @property
    def is_preparing(self) -> bool:
        return any(order.kind == "prepare" for order, _ in self.asked)

    async def obey(self, *, refuses: bool = False, dies: bool = False) -> None:
        asked, self.asked = self.asked, []
        for order, answer in asked:
            if dies:
                answer.set_exception(ConnectionResetError())
            elif refuses:
                answer.set_result(BAD)
            elif order.kind == "prepare":
                answer.set_result(Message("prepared", result=ReloadResult(NEW)))
            elif order.kind == "commit":
                self.policy_hash = NEW
                answer.set_result(COMMITTED)
        await settled()


@pytest.fixture
def workers() -> list[ObedientWorker]:
    return [ObedientWorker()]


@pytest.fixture
def coordinator(tmp_path: Path, workers: list[ObedientWorker]) -> ReloadCoordinator:
    config = tmp_path / "config.toml"
    config.write_text("# new")
    active = ReloadResult(OLD, files=("config.toml",))
    return ReloadCoordinator(config, b"", lambda: cast("Any", list(workers)), active)


async def begun(coordinator: ReloadCoordinator) -> asyncio.Task[ReloadResult]:
    reload = asyncio.create_task(coordinator.reload())
    await settled()
    return reload


@pytest.mark.parametrize("committing", [False, True], ids=["preparing", "committing"])
async def test_a_worker_that_joins_during_a_reload_is_reloaded_after_it(
    workers: list[ObedientWorker], coordinator: ReloadCoordinator, committing: bool
) -> None:
    reload = await begun(coordinator)
    if committing:
        await workers[0].obey()
    # It was forked before, with what was active then.
    workers.append(ObedientWorker())
    for _ in range(1 if committing else 2):
        assert not workers[1].is_preparing
        await workers[0].obey()
    assert [worker.is_preparing for worker in workers] == [True, True]
    for worker in 2 * workers:
        await worker.obey()
    assert (await reload).done
    assert coordinator.content == b"# new"
    assert {worker.policy_hash for worker in workers} == {coordinator.active.policy_hash} == {NEW}


async def test_a_worker_that_joins_a_refused_reload_is_one_of_them(
    workers: list[ObedientWorker], coordinator: ReloadCoordinator
) -> None:
    reload = await begun(coordinator)
    workers.append(ObedientWorker())
    await workers[0].obey(refuses=True)
    result = await reload
    assert not result.done
    assert result.files == ("config.toml", "rules.csv")
    assert not any(worker.asked for worker in workers)
    assert (coordinator.content, coordinator.active.policy_hash) == (b"", OLD)


async def test_a_file_that_is_gone_is_read_and_refused_by_the_workers(
    tmp_path: Path, workers: list[ObedientWorker], coordinator: ReloadCoordinator
) -> None:
    (tmp_path / "config.toml").unlink()
    reload = await begun(coordinator)
    assert [(order.kind, order.content) for order, _ in workers[0].asked] == [("prepare", None)]
    await workers[0].obey(refuses=True)
    assert (await reload).problems == ("it is bad",)
