"""Short fuzz runs: the server passes, and faulty servers are detected."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from lab.fuzz.batch import Sender
from lab.fuzz.grammar import Grammar
from lab.fuzz.run import Plan, run
from lab.fuzz.tally import Tally

SHOTS = 400
Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def test_the_server_stands_a_short_fuzz() -> None:
    lines: list[str] = []
    result = run(Plan(requests=20_000, seconds=14.0), lines.append)
    assert result.tally.findings == {}, result.tally.examples
    assert result.tally.done > 2_000
    assert {200, 400, 401, 404, 405} <= set(result.tally.statuses)


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


async def echo(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(status=404, text=f"no such thing: {request.path_qs}")


async def fail(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(status=500 if "%00" in request.raw_path else 404)


async def shout(_: web.BaseRequest) -> web.StreamResponse:
    return web.json_response({"status": "Success"})


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        (echo, "input echoed (clean)"),
        (fail, "5xx"),
        (shout, "contract: status only the exact text success counts"),
    ],
)
async def test_a_faulty_answer_is_found(answer: Answer, finding: str) -> None:
    async with aiohttp_server(answer) as port:
        tally = await fired(port)
    assert finding in tally.findings
