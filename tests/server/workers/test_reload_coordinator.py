"""The reloads of all workers, and workers that join while one is under way."""

import asyncio
from pathlib import Path

import pytest

from pexpolicy.server.reload_triggers import ReloadResult
from pexpolicy.server.workers.reload import (
    Commit,
    Committed,
    Order,
    Prepare,
    Prepared,
    Refused,
    ReloadCoordinator,
    Report,
)

OLD, NEW = "old", "new"


class Worker:
    """A worker that does what it is told once the test lets it."""

    def __init__(self) -> None:
        self.config_hash = OLD
        self.asked: list[tuple[Order, asyncio.Future[Report]]] = []

    async def ask(self, message: Order) -> Report:
        answer: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self.asked.append((message, answer))
        return await answer

    def send(self, message: Order) -> None:
        """Nothing comes of it."""

    @property
    def is_preparing(self) -> bool:
        return any(isinstance(order, Prepare) for order, _ in self.asked)

    async def obey(self, *, refuses: bool = False, dies: bool = False) -> None:
        """Carry out the orders so far."""
        asked, self.asked = self.asked, []
        for order, answer in asked:
            if dies:
                answer.set_exception(ConnectionResetError())
            elif refuses:
                answer.set_result(Refused(("it is bad",), files=("rules.csv",)))
            elif isinstance(order, Prepare):
                answer.set_result(Prepared(NEW))
            elif isinstance(order, Commit):
                self.config_hash = NEW
                answer.set_result(Committed(ReloadResult(NEW, files=("config.toml",))))
        await settled()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def workers() -> list[Worker]:
    return [Worker()]


@pytest.fixture
def coordinator(tmp_path: Path, workers: list[Worker]) -> ReloadCoordinator:
    config = tmp_path / "config.toml"
    config.write_text("# new")
    coordinator = ReloadCoordinator(config, b"", lambda: list(workers))
    coordinator.active_hash, coordinator.files = OLD, ("config.toml",)
    return coordinator


async def begun(coordinator: ReloadCoordinator) -> asyncio.Task[ReloadResult]:
    reload = asyncio.create_task(coordinator.reload())
    await settled()
    return reload


@pytest.mark.parametrize("committing", [False, True], ids=["preparing", "committing"])
async def test_a_worker_that_joins_during_a_reload_is_reloaded_after_it(
    workers: list[Worker], coordinator: ReloadCoordinator, committing: bool
) -> None:
    reload = await begun(coordinator)
    if committing:
        await workers[0].obey()
    # It was forked before, with what was active then.
    workers.append(Worker())
    for _ in range(1 if committing else 2):
        assert not workers[1].is_preparing
        await workers[0].obey()
    assert [worker.is_preparing for worker in workers] == [True, True]
    for worker in 2 * workers:
        await worker.obey()
    assert (await reload).done
    assert coordinator.content == b"# new"
    assert {worker.config_hash for worker in workers} == {coordinator.active_hash} == {NEW}


async def test_a_worker_that_joins_a_refused_reload_is_one_of_them(
    workers: list[Worker], coordinator: ReloadCoordinator
) -> None:
    reload = await begun(coordinator)
    workers.append(Worker())
    await workers[0].obey(refuses=True)
    result = await reload
    assert not result.done
    assert result.files == ("config.toml", "rules.csv")
    assert not any(worker.asked for worker in workers)
    assert (coordinator.content, coordinator.active_hash) == (b"", OLD)


async def test_a_worker_that_dies_before_the_end_of_a_reload_is_not_waited_for(
    workers: list[Worker], coordinator: ReloadCoordinator
) -> None:
    workers.append(Worker())
    reload = await begun(coordinator)
    await workers.pop().obey(dies=True)
    await workers[0].obey()
    await workers[0].obey()
    assert (await reload).config_hash == NEW
    assert not workers[0].asked


async def test_a_file_that_is_gone_is_a_refusal(
    tmp_path: Path, workers: list[Worker], coordinator: ReloadCoordinator
) -> None:
    (tmp_path / "config.toml").unlink()
    result = await coordinator.reload()
    assert result.problems == ("cannot be read: No such file or directory",)
    assert not workers[0].asked
