"""Streams: the server never waits for the reader of its standard output."""

import json
import os
import pty
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pexpolicy.audit.hash_chain import HashChain
from pexpolicy.audit.journal import AuditState, Journal
from pexpolicy.audit.reader import RawLine
from pexpolicy.audit.targets import Stream
from pexpolicy.audit.verify import Verification
from tests.audit.places import Clock, body


class Listened:
    """A journal that writes to a descriptor, and the descriptor of its reader."""

    def __init__(self, written: int, read: int) -> None:
        self.clock, self.alerts = Clock(), list[str]()
        self.read = read
        self.journal = Journal(
            Stream(written),
            HashChain(),
            AuditState(),
            self.alerts.append,
            capacity=1 << 24,
            clock=self.clock,
        )

    def record(self, first: int, count: int, text: str = "") -> None:
        for number in range(first, first + count):
            self.journal.record(body(number, text))

    @property
    def status(self) -> str:
        return self.journal.state.status

    def lines(self, count: int) -> list[bytes]:
        """Return `count` lines, while the journal writes waiting ones."""
        os.set_blocking(self.read, False)
        received = b""
        for _ in range(100_000):
            try:
                received += os.read(self.read, 1 << 16)
            except BlockingIOError:
                self.clock.pass_by(0.03)
                self.journal.tick()
            if received.count(b"\n") >= count:
                break
        return received.splitlines()


def numbers(lines: list[bytes]) -> list[int]:
    return [json.loads(line)["n"] for line in lines]


@pytest.fixture(params=["pipe", "socket"])
def listened(request: pytest.FixtureRequest) -> Iterator[Listened]:
    if request.param == "pipe":
        reader, writer = os.pipe()
    else:
        reader, writer = (one.detach() for one in socket.socketpair())
    made = Listened(writer, reader)
    os.close(writer)
    yield made
    os.set_blocking(reader, False)
    with suppress(BlockingIOError):
        while os.read(reader, 1 << 16):
            pass
    made.journal.close()
    os.close(reader)


@pytest.mark.parametrize("length", [100, 3000, 9000])
def test_a_stalled_reader_delays_no_call_and_gets_all_lines_in_the_end(
    listened: Listened, length: int
) -> None:
    count = 3_000_000 // (length + 300)
    listened.record(0, count, "x" * length)
    assert listened.journal.state.buffered_bytes > 0
    listened.clock.pass_by(1.0)
    listened.journal.tick()
    assert listened.status == "degraded"
    assert listened.journal.state.loses_lines
    assert listened.alerts == ["the audit cannot be written: its reader has stalled"]
    received = listened.lines(count)
    assert numbers(received) == list(range(count))
    listened.clock.pass_by(2.0)
    listened.record(count, 1)
    assert listened.status == "healthy"
    assert not listened.journal.state.loses_lines
    raws = [RawLine(Path("pipe"), n, line) for n, line in enumerate(received)]
    assert list(Verification().verify(raws)) == []


def test_who_shares_the_pipe_may_still_wait_for_it() -> None:
    reader, writer = os.pipe()
    shared = Listened(writer, reader)
    shared.record(0, 1)
    assert os.get_blocking(writer)
    shared.journal.close()
    assert numbers([os.read(reader, 4096)]) == [0]


def test_an_end_gives_a_slow_reader_the_rest_of_its_line() -> None:
    reader, writer = os.pipe()
    slow = Listened(writer, reader)
    slow.record(0, 1, "x" * 100_000)
    os.close(writer)
    ending = threading.Thread(target=slow.journal.close)
    ending.start()
    received = b""
    while more := os.read(reader, 1 << 16):
        received += more
    ending.join()
    assert numbers(received.splitlines()) == [0]


def test_a_stopped_terminal_blocks_nothing() -> None:
    controller, terminal = pty.openpty()
    terminal_output = Listened(terminal, controller)
    terminal_output.record(0, 2000, "x" * 100)
    assert terminal_output.journal.state.buffered_bytes > 0
