"""The reloads of all workers, and who joins while one is under way."""

from pathlib import Path

import pytest

from pexpolicy.reload.verdict import Verdict
from pexpolicy.workers.messages import Commit, Committed, Order, Prepare, Prepared, Refused, Serving
from pexpolicy.workers.rounds import Rounds
from tests import toys

OLD, NEW = "old", "new"


class Workers:
    """Workers by number, each of which does what it is told once the test lets it."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "config.toml"
        self.config.write_text("")
        self.serving: set[int] = set()
        self.orders: list[tuple[int, Order]] = []
        self.rounds = Rounds(
            self.config,
            b"",
            0.0,
            toys.Log(),
            workers=lambda: self.serving,
            send=lambda worker, order: self.orders.append((worker, order)),
        )

    def serve(self, worker: int, config_hash: str) -> None:
        """A worker answers calls."""
        self.serving.add(worker)
        self.rounds.hear(worker, Serving("", config_hash, (str(self.config),)))

    def obey(self) -> None:
        """Each order so far is carried out."""
        orders, self.orders = self.orders, []
        for worker, order in orders:
            if isinstance(order, Prepare):
                self.rounds.hear(worker, Prepared(NEW))
            elif isinstance(order, Commit):
                files = (str(self.config),)
                self.rounds.hear(worker, Committed(Verdict(NEW), files))

    @property
    def preparing(self) -> set[int]:
        """Who was told to prepare last."""
        return {worker for worker, order in self.orders if isinstance(order, Prepare)}


@pytest.mark.parametrize("committing", [False, True], ids=["preparing", "committing"])
def test_a_worker_that_joins_during_a_reload_is_taken_along_behind_it(
    tmp_path: Path, committing: bool
) -> None:
    workers = Workers(tmp_path)
    workers.serve(1, OLD)
    workers.rounds.want(lambda _: None)
    if committing:
        workers.obey()
    # It was forked before, with what was in force then.
    workers.serve(2, OLD)
    for _ in range(1 if committing else 2):
        assert workers.preparing <= {1}
        workers.obey()
    assert workers.preparing == {1, 2}


def test_a_worker_that_joins_a_refused_reload_is_one_of_them(tmp_path: Path) -> None:
    workers = Workers(tmp_path)
    workers.serve(1, OLD)
    told: list[Verdict] = []
    workers.rounds.want(told.append)
    workers.serve(2, OLD)
    workers.orders.clear()
    workers.rounds.hear(1, Refused(("it is bad",)))
    assert [verdict.done for verdict in told] == [False]
    assert workers.orders == []


def test_a_worker_that_dies_before_the_end_of_a_reload_is_waited_for_by_nobody(
    tmp_path: Path,
) -> None:
    workers = Workers(tmp_path)
    workers.serve(1, OLD)
    told: list[Verdict] = []
    workers.rounds.want(told.append)
    workers.serve(2, OLD)
    workers.serving.discard(2)
    workers.rounds.lose(2)
    workers.obey()
    workers.obey()
    assert [verdict.config_hash for verdict in told] == [NEW]
    assert workers.orders == []
