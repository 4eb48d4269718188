"""Messages between the supervisor and its workers arrive whole, however they are cut."""

import asyncio
import socket
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.server.reload.result import ReloadResult
from pexpolicy.server.workers import messages
from pexpolicy.server.workers.messages import (
    ORDERS,
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
    WorkerConnection,
    framed,
    next_message,
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
ORDERED = st.builds(Prepare, st.binary()) | st.just(Commit()) | st.just(Abandon())


@given(st.lists(REPORTS, min_size=1, max_size=5), st.data())
def test_reports_arrive_whole_in_whatever_pieces(
    reports: list[Report], data: st.DataObject
) -> None:
    content = b"".join(map(framed, reports))
    cuts = data.draw(st.lists(st.integers(0, len(content)), max_size=5))
    heard: list[Report] = []

    async def hear() -> None:
        ours, theirs = socket.socketpair()
        listening = asyncio.create_task(WorkerConnection(ours, heard.append).listen())
        with theirs:
            for start, end in pairwise(sorted({0, *cuts, len(content)})):
                theirs.sendall(content[start:end])
                await settled()
        await listening

    asyncio.run(hear())
    assert heard == reports


@given(st.lists(ORDERED, max_size=5))
def test_orders_arrive_in_turn_and_then_the_end(orders: list[Order]) -> None:
    async def hear() -> list[Order]:
        reader = asyncio.StreamReader()
        reader.feed_data(b"".join(map(framed, orders)))
        reader.feed_eof()
        heard: list[Order] = []
        while (order := await next_message(reader, ORDERS)) is not None:
            heard.append(order)
        return heard

    assert asyncio.run(hear()) == orders


async def test_what_makes_no_sense_ends_the_connection() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall((3).to_bytes(8, "big") + b"???")
        theirs.settimeout(HANG_S)
        await WorkerConnection(ours, lambda _: None).listen()
        await settled()
        assert theirs.recv(1) == b""


async def test_a_worker_that_takes_nothing_holds_up_nothing_but_its_answer() -> None:
    ours, theirs = socket.socketpair()
    connection = WorkerConnection(ours, lambda _: None)
    listening = asyncio.create_task(connection.listen())
    with theirs:
        theirs.sendall(framed(Serving("", "a hash", ())))
        await settled()
        assert connection.config_hash == "a hash"
        answer = asyncio.create_task(connection.ask(Prepare(bytes(10_000_000))))
        await asyncio.sleep(0.05)
        assert not answer.done()
    assert await asyncio.wait_for(answer, HANG_S) is None
    assert connection.config_hash == ""
    assert await connection.ask(Commit()) is None
    await listening


async def test_half_a_character_in_a_text_of_a_plugin_is_a_question_mark() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(framed(Refused(("desks: \udcff",))))
    reader.feed_data(framed(Committed(ReloadResult("0", files=("r\udce4ume",)))))
    assert await next_message(reader, messages.REPORTS) == Refused(("desks: ?",))
    result = ReloadResult("0", files=("r?ume",))
    assert await next_message(reader, messages.REPORTS) == Committed(result)
