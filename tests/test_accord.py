"""A reload of several workers: all of them, or none."""

from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.reload.verdict import Verdict
from pexpolicy.workers.accord import Accord
from pexpolicy.workers.messages import (
    Abandon,
    Commit,
    Committed,
    Order,
    Prepare,
    Prepared,
    Refused,
)

NEW, OLD = "new", "old"
FATES = ["prepares", "refuses", "dies preparing", "dies committing", "read something else"]


class Worker:
    """A worker that meets its fate, and what it serves."""

    def __init__(self, fate: str) -> None:
        self.fate = fate
        self.serves = OLD
        self.alive = True
        self.waits = False


def agree(workers: dict[int, Worker], order: list[int]) -> Verdict:
    """Carry out an accord; the workers answer in this order."""
    orders: list[tuple[int, Order]] = []
    accord = Accord(workers, b"content", OLD, lambda worker, order: orders.append((worker, order)))
    while orders:
        orders.sort(key=lambda sent: order.index(sent[0]))
        number, sent = orders.pop(0)
        worker = workers[number]
        match sent:
            case Prepare() if worker.fate == "refuses":
                accord.hear(number, Refused(("it is bad",)))
            case Prepare() if worker.fate == "dies preparing":
                worker.alive = False
                accord.lose(number)
            case Prepare():
                worker.waits = True
                other = worker.fate == "read something else"
                accord.hear(number, Prepared("other" if other else NEW))
            case Commit() if worker.fate == "dies committing":
                worker.alive = False
                accord.lose(number)
            case Commit():
                worker.serves, worker.waits = NEW, False
                accord.hear(number, Committed(Verdict(NEW), ("config.toml",)))
            case Abandon():
                worker.waits = False
    assert accord.verdict is not None
    return accord.verdict


@given(st.lists(st.sampled_from(FATES), max_size=5), st.data())
def test_the_living_all_serve_what_the_verdict_says(fates: list[str], data: st.DataObject) -> None:
    workers = {number: Worker(fate) for number, fate in enumerate(fates)}
    order = data.draw(st.permutations(range(len(fates))))
    verdict = agree(workers, list(order))
    living = [worker for worker in workers.values() if worker.alive]
    assert not any(worker.waits for worker in living)
    if verdict.done:
        assert living
        assert verdict.config_hash == NEW
    else:
        assert verdict.config_hash == OLD
    assert {worker.serves for worker in living} <= {NEW if verdict.done else OLD}


def test_one_refusal_is_enough() -> None:
    workers = {1: Worker("prepares"), 2: Worker("refuses")}
    verdict = agree(workers, [1, 2])
    assert verdict.problems == ("it is bad",)


def test_a_report_from_elsewhere_is_nothing() -> None:
    accord = Accord([1], b"", OLD, lambda *_: None)
    accord.hear(2, Prepared(NEW))
    accord.lose(2)
    assert accord.verdict is None
