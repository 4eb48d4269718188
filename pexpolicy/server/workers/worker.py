"""One worker: a server like any other, that reloads when the supervisor says so."""

from __future__ import annotations

import asyncio
import socket

from pexpolicy.config.settings import ConfigError, PluginStartupError
from pexpolicy.server import shutdown
from pexpolicy.server.event_loop import run
from pexpolicy.server.lifecycle import Leftovers, ServerContext, started
from pexpolicy.server.reload.build_thread import run_in_build_thread
from pexpolicy.server.shutdown import ShutdownSignal
from pexpolicy.server.workers.messages import Alive, Refused, Serving, framed
from pexpolicy.server.workers.reload_participant import ReloadParticipant
from pexpolicy.tasks import hide

BEAT = 1.0
"""Seconds between two signs of life for the supervisor."""


def run_worker(
    content: bytes, listeners: list[socket.socket], link: socket.socket, context: ServerContext
) -> None:
    """Serve the configuration of this content until a signal, or the supervisor's end, ends it.

    ``link`` is the worker's end of the socket to the supervisor.
    """
    leftovers = run(_serve(content, listeners, link, context), serving=True)
    if leftovers():
        shutdown.force_exit(leftovers)


async def _serve(
    content: bytes, listeners: list[socket.socket], link: socket.socket, context: ServerContext
) -> Leftovers:
    reader, writer = await asyncio.open_connection(sock=link)
    tasks = [asyncio.create_task(_beat(writer))]
    hide(tasks[0])
    stop = ShutdownSignal()
    try:
        policy = await run_in_build_thread(lambda: context.build(content))
        async with started(policy, listeners, stop, context) as server:
            files = tuple(map(str, policy.files))
            writer.write(framed(Serving(server.announcement, policy.config_hash, files)))
            tasks.append(
                asyncio.create_task(ReloadParticipant(server.reloader, reader, writer).run())
            )
            hide(tasks[1])
            # Without a supervisor nothing reloads a worker, and nothing stops it.
            tasks[1].add_done_callback(lambda _: stop.ask())
            await stop.asked.wait()
            await server.drain(stop)
    except ConfigError as error:
        problems = tuple(map(str, error.problems))
        writer.write(framed(Refused(problems, isinstance(error, PluginStartupError))))
        await writer.drain()
        return list
    finally:
        for task in tasks:
            task.cancel()
        writer.close()
    return server.leftovers


async def _beat(writer: asyncio.StreamWriter) -> None:
    """Give signs of life, as long as the event loop turns."""
    while True:
        writer.write(framed(Alive()))
        await asyncio.sleep(BEAT)
