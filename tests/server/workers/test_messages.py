"""Messages between the supervisor and its workers arrive whole and in order."""

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.server.reload_triggers import ReloadResult
from pexpolicy.server.workers import Order, Report, SupervisorChannel, Worker
from tests.server.test_generations import settled
from tests.support.waiting import HANG_S

TEXTS = st.lists(st.text(max_size=5), max_size=3).map(tuple)
RESULTS = st.builds(ReloadResult, st.text(), TEXTS, TEXTS, TEXTS, TEXTS)
REPORTS = st.builds(
    Report, st.sampled_from(["alive", "serving", "prepared", "refused", "committed"]), RESULTS
)
ORDERS = st.builds(Order, st.sampled_from(["prepare", "commit", "abandon"]), st.binary())


def connected(heard: list[Report]) -> tuple[Worker, SupervisorChannel]:
    """Both ends of a socket."""
    ours, theirs = socket.socketpair()
    return Worker(ours, lambda _, report: heard.append(report)), SupervisorChannel(theirs)


@given(st.lists(REPORTS, max_size=5), st.lists(ORDERS, max_size=5))
def test_messages_arrive_in_turn_and_then_the_end(
    reports: list[Report], orders: list[Order]
) -> None:
    heard: list[Report] = []

    async def exchange() -> list[Order]:
        worker, supervisor = connected(heard)
        await worker.attach()
        await supervisor.attach()
        for order in orders:
            worker.send(order)
        for report in reports:
            supervisor.send(report)
        received = [await supervisor.reloads.get() for _ in orders]
        supervisor.close()
        await asyncio.wait_for(worker.ended.wait(), HANG_S)
        return received

    assert asyncio.run(exchange()) == orders
    assert heard == reports


async def test_a_worker_that_takes_nothing_holds_up_nothing_but_its_answer() -> None:
    worker, supervisor = connected([])
    await worker.attach()
    supervisor.send(Report("serving", ReloadResult("a hash")))
    await settled()
    assert worker.config_hash == "a hash"
    answer = asyncio.create_task(worker.ask(Order("prepare", bytes(20_000_000))))
    await asyncio.sleep(0.05)
    assert not answer.done()
    supervisor.close()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(answer, HANG_S)
    await worker.ended.wait()
    with pytest.raises(ConnectionResetError):
        await worker.ask(Order("commit"))


async def test_half_a_character_in_a_text_of_a_plugin_is_a_question_mark() -> None:
    heard: list[Report] = []
    worker, supervisor = connected(heard)
    supervisor.send(Report("refused", ReloadResult("", problems=("desks: \udcff",))))
    supervisor.close()
    await worker.attach()
    await worker.ended.wait()
    assert heard == [Report("refused", ReloadResult("", problems=("desks: ?",)))]
