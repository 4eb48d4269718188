"""A reload of several workers: all of them, or none."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.server.reload_triggers import ReloadResult
from pexpolicy.server.workers.reload import (
    Abandon,
    Commit,
    Committed,
    Order,
    Prepare,
    Prepared,
    Refused,
    Report,
    reload_all,
)

NEW, OLD = "new", "old"
FATES = ["prepares", "refuses", "dies preparing", "dies committing", "read something else"]


class Worker:
    """A worker that meets its fate, and what it serves; it answers in its turn."""

    def __init__(self, fate: str, turn: int = 0) -> None:
        self.fate = fate
        self.turn = turn
        self.serves = OLD
        self.alive = True
        self.waits = False

    async def ask(self, message: Order) -> Report:
        for _ in range(self.turn):
            await asyncio.sleep(0)
        match message:
            case Prepare() if self.fate == "refuses":
                return Refused(("it is bad",), files=("rules.csv",))
            case Prepare() if self.fate != "dies preparing":
                self.waits = True
                return Prepared("other" if self.fate == "read something else" else NEW)
            case Commit() if self.fate != "dies committing":
                self.serves, self.waits = NEW, False
                return Committed(ReloadResult(NEW, files=("config.toml",)))
        self.alive = False
        raise ConnectionResetError

    def send(self, message: Order) -> None:
        assert isinstance(message, Abandon)
        self.waits = False


def reloaded(*workers: Worker) -> ReloadResult:
    """The result of a transaction of these workers."""
    return asyncio.run(reload_all(workers, b"content", OLD))


@given(st.lists(st.sampled_from(FATES), max_size=5), st.data())
def test_the_living_all_serve_what_the_result_says(fates: list[str], data: st.DataObject) -> None:
    turns = data.draw(st.permutations(range(len(fates))))
    workers = [Worker(fate, turn) for fate, turn in zip(fates, turns, strict=True)]
    result = reloaded(*workers)
    living = [worker for worker in workers if worker.alive]
    assert not any(worker.waits for worker in living)
    if result.done:
        assert living
        assert result.config_hash == NEW
    else:
        assert result.config_hash == OLD
    assert {worker.serves for worker in living} <= {NEW if result.done else OLD}


def test_one_refusal_is_enough() -> None:
    result = reloaded(Worker("prepares"), Worker("refuses"))
    assert result.problems == ("it is bad",)
    assert result.files == ("rules.csv",)
