"""What the arbiter and its workers say to each other arrives whole, however it is cut."""

import asyncio
import socket
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.reload.verdict import Verdict
from pexpolicy.workers.messages import (
    Abandon,
    Commit,
    Committed,
    Link,
    Prepare,
    Prepared,
    Refused,
    Serving,
    framed,
    next_order,
)

TEXTS = st.lists(st.text(max_size=5), max_size=3).map(tuple)
REPORTS = (
    st.builds(Serving, st.text(), st.text(), TEXTS)
    | st.builds(Prepared, st.text())
    | st.builds(Refused, TEXTS)
    | st.builds(Committed, st.builds(Verdict, st.text(), TEXTS, TEXTS, TEXTS), TEXTS)
)
ORDERS = st.builds(Prepare, st.binary()) | st.just(Commit()) | st.just(Abandon())


@given(st.lists(REPORTS, min_size=1, max_size=5), st.data())
def test_reports_arrive_whole_in_whatever_pieces(
    reports: list[Serving | Prepared | Refused | Committed], data: st.DataObject
) -> None:
    content = b"".join(map(framed, reports))
    cuts = data.draw(st.lists(st.integers(0, len(content)), max_size=5))
    heard = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        link = Link(ours)
        for start, end in pairwise(sorted({0, *cuts, len(content)})):
            theirs.sendall(content[start:end])
            heard += list(link.receive())
    assert heard == reports


@given(st.lists(ORDERS, max_size=5))
def test_orders_arrive_in_turn_and_then_the_end(orders: list[Prepare | Commit | Abandon]) -> None:
    async def hear() -> list[object]:
        reader = asyncio.StreamReader()
        reader.feed_data(b"".join(map(framed, orders)))
        reader.feed_eof()
        heard: list[object] = []
        while (order := await next_order(reader)) is not None:
            heard.append(order)
        return heard

    assert asyncio.run(hear()) == orders


def test_a_worker_that_takes_nothing_is_broken_off_at_both_ends() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        link = Link(ours, patience=0.05)
        with pytest.raises(OSError, match="timed out"):
            link.send(Prepare(bytes(10_000_000)))
        link.break_off()
        with pytest.raises(EOFError):
            list(link.receive())
        while theirs.recv(1 << 20):
            pass
