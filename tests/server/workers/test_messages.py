"""Messages between the supervisor and its workers arrive whole and in order."""

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.server.reload_triggers import ReloadResult
from pexpolicy.server.workers.reload import (
    Abandon,
    Alive,
    Commit,
    Committed,
    Order,
    Prepare,
    Prepared,
    Refused,
    Report,
    Serving,
    SupervisorConnection,
    WorkerConnection,
)
from tests.server.test_generations import settled
from tests.support.waiting import HANG_S

TEXTS = st.lists(st.text(max_size=5), max_size=3).map(tuple)
RESULTS = st.builds(ReloadResult, st.text(), TEXTS, TEXTS, TEXTS, TEXTS)
REPORTS = (
    st.just(Alive())
    | st.builds(Serving, st.text(), st.text(), TEXTS)
    | st.builds(Prepared, st.text())
    | st.builds(Refused, TEXTS)
    | st.builds(Committed, RESULTS)
)
ORDERS = st.builds(Prepare, st.binary()) | st.just(Commit()) | st.just(Abandon())


@given(st.lists(REPORTS, max_size=5), st.lists(ORDERS, max_size=5))
def test_messages_arrive_in_turn_and_then_the_end(
    reports: list[Report], orders: list[Order]
) -> None:
    heard: list[Report] = []

    async def exchange() -> list[Order]:
        ours, theirs = socket.socketpair()
        worker, supervisor = WorkerConnection(ours, heard.append), SupervisorConnection(theirs)
        listening = asyncio.create_task(worker.listen())
        await supervisor.attach()
        await settled()
        for order in orders:
            worker.send(order)
        for report in reports:
            supervisor.send(report)
        received = [await supervisor.reloads.get() for _ in orders]
        supervisor.close()
        await asyncio.wait_for(listening, HANG_S)
        return list(received)

    assert asyncio.run(exchange()) == orders
    assert heard == reports


async def test_a_worker_that_takes_nothing_holds_up_nothing_but_its_answer() -> None:
    ours, theirs = socket.socketpair()
    connection = WorkerConnection(ours, lambda _: None)
    listening = asyncio.create_task(connection.listen())
    worker = SupervisorConnection(theirs)
    worker.send(Serving("", "a hash", ()))
    await settled()
    assert connection.config_hash == "a hash"
    answer = asyncio.create_task(connection.ask(Prepare(bytes(20_000_000))))
    await asyncio.sleep(0.05)
    assert not answer.done()
    worker.close()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(answer, HANG_S)
    await listening
    assert connection.config_hash == ""
    with pytest.raises(ConnectionResetError):
        await connection.ask(Commit())


async def test_half_a_character_in_a_text_of_a_plugin_is_a_question_mark() -> None:
    ours, theirs = socket.socketpair()
    heard: list[Report] = []
    connection = WorkerConnection(ours, heard.append)
    worker = SupervisorConnection(theirs)
    worker.send(Refused(("desks: \udcff",)))
    worker.send(Committed(ReloadResult("0", files=("r\udce4ume",))))
    worker.close()
    await connection.listen()
    assert heard == [Refused(("desks: ?",)), Committed(ReloadResult("0", files=("r?ume",)))]
