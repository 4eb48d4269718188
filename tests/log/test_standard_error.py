"""Writing of lines while the reader of standard error is slow, stalled or gone."""

import ast
import fcntl
import io
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TextIO

import pytest

from pexpolicy import log
from pexpolicy.log import StandardError
from tests.support.waiting import HANG_S, wait_until


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        yield reader, stream
        os.close(reader)
        for thread in threading.enumerate():
            if thread.name == "pexpolicy-log":
                thread.join(10)


def report(lines: Mapping[str, int]) -> str:
    return f"left out {dict(sorted(lines.items()))}"


def read_all(reader: int) -> str:
    os.set_blocking(reader, False)
    content = b""
    while True:
        try:
            piece = os.read(reader, 65536)
        except BlockingIOError:
            return content.decode()
        if not piece:
            return content.decode()
        content += piece


def collected(reader: int) -> Callable[[], str]:
    """Return what reads more at each call, and returns all so far."""
    parts: list[str] = []

    def content() -> str:
        parts.append(read_all(reader))
        return "".join(parts)

    return content


def test_a_stalled_reader_delays_no_writer_and_what_does_not_fit_is_counted(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, stream = pipe
    monkeypatch.setattr(log, "MAX_PENDING", 200_000)
    monkeypatch.setattr(log, "RESERVED", 50_000)
    output = StandardError(stream, report)
    text = "x" * 99
    with output.background():
        # The pipe is read only after the last of them.
        for _ in range(5000):
            output.write(text, "noisy")
        output.write("the server has room of its own")
        content = collected(reader)
        wait_until(lambda: "room of its own" in content())
    lines = content().splitlines()
    lines.remove("the server has room of its own")
    left_out = [ast.literal_eval(line[9:])["noisy"] for line in lines if line != text]
    assert sum(left_out) > 2000
    assert sum(left_out) + lines.count(text) == 5000


def test_lines_of_several_processes_do_not_mix(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    output = StandardError(stream, report)
    children = []
    for name in "ab":
        pid = os.fork()
        if pid == 0:
            with output.background():
                for number in range(60):
                    # Longer than what a pipe takes whole, and shorter.
                    output.write(json.dumps([name * (9000 if number % 2 else 90), number]))
            os._exit(0)
        children.append(pid)
    content: list[bytes] = []

    def read() -> None:
        while b"".join(content).count(b"\n") < 120:
            content.append(os.read(reader, 3000))

    thread = threading.Thread(target=read)
    thread.start()
    thread.join(HANG_S)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    lines = [json.loads(line) for line in b"".join(content).splitlines()]
    assert len(lines) == 120
    assert {"".join(sorted(set(text))) for text, _ in lines} == {"a", "b"}


def test_a_process_that_must_not_wait_leaves_lines_out_and_says_so(
    pipe: tuple[int, TextIO],
) -> None:
    reader, stream = pipe
    output = StandardError(stream, report)
    output.never_wait()
    for _ in range(2000):
        output.write("x" * 99)
    assert read_all(reader).count("\n") < 1000
    output.write("readable again")
    first, second = read_all(reader).splitlines()
    assert first.startswith("left out {'': 1")
    assert second == "readable again"


def test_a_forked_process_of_a_plugin_writes_its_lines_itself(pipe: tuple[int, TextIO]) -> None:
    output = StandardError(pipe[1], report)
    with output.background():
        pid = os.fork()
        if pid == 0:
            output.write("from the child", "forks")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    assert "from the child\n" in read_all(pipe[0])


def test_a_pipe_that_another_process_made_non_blocking_loses_nothing(
    pipe: tuple[int, TextIO],
) -> None:
    reader, stream = pipe
    flags = fcntl.fcntl(stream, fcntl.F_GETFL)
    fcntl.fcntl(stream, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    output = StandardError(stream, report)
    content = collected(reader)
    with output.background():
        for _ in range(2000):
            output.write("x" * 99, "noisy")
        wait_until(lambda: content().count("\n") >= 2000)
    assert content().count("x" * 99 + "\n") == 2000


def test_a_closed_stream_raises_nothing() -> None:
    stream = io.StringIO()
    output = StandardError(stream, report)
    stream.close()
    output.write("nobody reads this")
    with output.background():
        output.write("nor this", "noisy")
