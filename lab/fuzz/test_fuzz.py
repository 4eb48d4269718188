"""Short fuzz runs: the server passes, and faulty servers are detected."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from lab.fuzz.batch import Sender
from lab.fuzz.grammar import Grammar
from lab.fuzz.run import Plan, run
from lab.fuzz.tally import Tally

SHOTS = 400
Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def test_the_server_stands_a_short_fuzz() -> None:
    lines: list[str] = []
    result = run(Plan(requests=20_000, seconds=14.0), lines.append)
    assert result.tally.findings == {}, result.tally.examples
    assert result.tally.done > 2_000
    assert {200, 400, 401, 404, 405} <= set(result.tally.statuses)


def test_a_shot_is_made_from_seed_and_number_alone() -> None:
    forward = [Grammar(7).case(number) for number in range(500)]
    grammar = Grammar(7)
    backward = [grammar.case(number) for number in reversed(range(500))]
    assert forward == backward[::-1]
    assert forward != [Grammar(8).case(number) for number in range(500)]


def test_the_grammar_makes_every_kind_of_shot() -> None:
    grammar = Grammar(1)
    kinds = {grammar.case(number).kind for number in range(10_000)}
    assert kinds == {
        *("clean", "version", "no version", "method", "header", "host", "target bytes", "bitten"),
        *("target form", "long line", "many headers", "chunked", "bad chunks", "length"),
        *("bad length", "expect", "upgrade", "line ends", "half sent", "leading noise"),
        "other protocol",
    }


def test_clean_shots_never_put_the_token_into_the_dialed_alias() -> None:
    grammar = Grammar(1)
    for number in range(20_000):
        case = grammar.case(number)
        if not case.clean:
            continue
        query = case.wire.partition(b"?")[2].partition(b" HTTP/")[0]
        marked = [parameter for parameter in query.split(b"&") if grammar.token in parameter]
        assert not any(b"local_alias=" in parameter for parameter in marked)


async def fired(port: int, count: int = SHOTS, timeout_s: float = 10.0) -> Tally:
    """Fire at a port and return what was seen."""
    grammar = Grammar(3)
    tally = Tally(grammar.token)
    await Sender(grammar, port, count, time.monotonic() + 60, tally, timeout_s).send_all(8)
    return tally


@asynccontextmanager
async def aiohttp_server(answer: Answer) -> AsyncIterator[int]:
    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        port: int = runner.addresses[0][1]
        yield port
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_server(connected: Connected) -> AsyncIterator[int]:
    async def shielded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await connected(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(shielded, "127.0.0.1", 0)
    async with server:
        port: int = server.sockets[0].getsockname()[1]
        yield port


async def echo(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(status=404, text=f"no such thing: {request.path_qs}")


async def echo_header(request: web.BaseRequest) -> web.StreamResponse:
    seen = request.headers.get("X-A", "")
    return web.Response(status=404, headers={"X-Seen": seen} if seen.isdigit() else {})


async def fail(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(status=500 if "%00" in request.raw_path else 404)


async def redirect(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(status=301 if "//" in request.path else 404)


async def show_traceback(request: web.BaseRequest) -> web.StreamResponse:
    trouble = "limit=9" in request.query_string
    return web.Response(status=404, text='  File "x.py", line 1' if trouble else "")


async def shout(_: web.BaseRequest) -> web.StreamResponse:
    return web.json_response({"status": "Success"})


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        (echo, "input echoed (clean)"),
        (echo_header, "input echoed (clean)"),
        (fail, "5xx"),
        (redirect, "redirect"),
        (show_traceback, "traceback"),
        (shout, "contract: status only the exact text success counts"),
    ],
)
async def test_a_faulty_answer_is_found(answer: Answer, finding: str) -> None:
    async with aiohttp_server(answer) as port:
        tally = await fired(port, 3_000 if answer is show_traceback else SHOTS)
    assert finding in tally.findings


async def answer_every_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that knows nothing of bodies: what lies in one is the next request to it."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        if b"Connection: close" in head:
            return


async def answer_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while b"Connection: close" not in await reader.readuntil(b"\r\n\r\n"):
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n" * 2)


async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def fall_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while await reader.read(65_536):
        pass


async def talk_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"404 not here\r\n\r\n")
    await writer.drain()


@pytest.mark.parametrize(
    ("connected", "finding"),
    [
        (answer_every_head, "more replies than requests"),
        (answer_twice, "more replies than requests"),
        (hang_up, "well-framed request closed without a reply"),
        (fall_silent, "neither a reply nor a closed connection"),
        (talk_nonsense, "unreadable reply"),
    ],
)
async def test_a_faulty_connection_is_found(connected: Connected, finding: str) -> None:
    async with raw_server(connected) as port:
        tally = await fired(port, 100, timeout_s=0.1)
    assert finding in tally.findings


async def test_a_port_without_a_listener_ends_the_run() -> None:
    async with raw_server(hang_up) as port:
        pass
    tally = await fired(port)
    assert "connection refused" in tally.findings
    assert tally.done == 0


def test_a_server_that_does_not_start_is_reported_with_its_own_words(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[sever]\n", "utf-8")
    with pytest.raises(AssertionError, match="sever"):
        run(Plan(requests=1, config=config), print)
