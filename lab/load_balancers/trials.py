"""The experiments: servers restarted in turn under load, all gone at once, all of them silent."""

import asyncio
import itertools
import signal
from pathlib import Path

from lab.load_balancers.guards import Guard
from lab.load_balancers.load import Callers, Tally
from lab.load_balancers.servers import DECIDING, pair, silent
from tests.support.server_process import temporary_folder

CALLERS = 6
PAUSE = 0.02
"""Seconds between two calls of one caller while servers are restarted."""
CROWD = 100
"""Callers at the moment when all servers are gone."""


async def restarts(guard: Guard, rounds: int, drain: float = 0.0) -> Tally:
    """Restart both servers in turn, repeatedly, under load; return all calls.

    ``drain`` is their ``drain_delay`` in seconds.
    """
    configuration = DECIDING.replace("[server]", f"[server]\ndrain_delay = {drain}")
    with (
        temporary_folder("guard-") as folder,
        pair(Path(folder), configuration) as servers,
        guard(Path(folder), [server.port for server in servers], "continue") as port,
    ):
        callers = Callers(port, CALLERS, PAUSE)
        for server in servers:
            await asyncio.to_thread(server.wait_for_calls)
        for server in itertools.chain.from_iterable(itertools.repeat(servers, rounds)):
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            await asyncio.to_thread(server.wait_for_calls)
        return Tally.of(await callers.stop())


async def struck(
    guard: Guard, number: signal.Signals, servers: int, further: int, crowd: int = CROWD
) -> tuple[Tally, Tally]:
    """Strike one or both servers under load.

    Return the calls in progress, and ``further`` calls started afterwards.
    """
    with (
        temporary_folder("guard-") as folder,
        pair(Path(folder)) as both,
        guard(Path(folder), [server.port for server in both], "reject") as port,
    ):
        callers = Callers(port, crowd)
        for server in both:
            await asyncio.to_thread(server.wait_for_calls)
        for server in both[:servers]:
            server.strike(number)
        under_way, later = await callers.further(further)
        return Tally.of(under_way), Tally.of(later)


async def silence(guard: Guard, calls: int) -> Tally:
    """Call servers that report ready and answer no call, which takes longest."""
    with temporary_folder("guard-") as folder:
        async with silent() as one, silent() as two:
            with guard(Path(folder), [one, two], "reject") as port:
                _, asked = await Callers(port, CROWD).further(calls)
                return Tally.of(asked)
