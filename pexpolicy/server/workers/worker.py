"""A worker process: a server that reloads on the order of the supervisor."""

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

HEARTBEAT_S = 1.0
"""Seconds between two heartbeats to the supervisor."""


def run_worker(
    content: bytes,
    listeners: list[socket.socket],
    connection: socket.socket,
    context: ServerContext,
) -> None:
    """Serve the configuration of this content until a signal or the end of the supervisor.

    ``connection`` is the worker's end of the socket to the supervisor.
    """
    with context.log_thread():
        leftovers = run(_serve(content, listeners, connection, context), serving=True)
    if leftovers():
        shutdown.force_exit(leftovers)


async def _serve(
    content: bytes,
    listeners: list[socket.socket],
    connection: socket.socket,
    context: ServerContext,
) -> Leftovers:
    reader, writer = await asyncio.open_connection(sock=connection)
    tasks = [asyncio.create_task(_send_heartbeats(writer))]
    hide(tasks[0])
    stop = ShutdownSignal()
    try:
        policy = await run_in_build_thread(lambda: context.build(content))
        async with started(policy, listeners, stop, context) as server:
            files = tuple(map(str, policy.files))
            writer.write(framed(Serving(server.announcement, policy.config_hash, files)))
            del policy
            tasks.append(
                asyncio.create_task(ReloadParticipant(server.reloader, reader, writer).run())
            )
            hide(tasks[1])
            # A worker without a supervisor must stop: nothing else would reload or stop it.
            tasks[1].add_done_callback(lambda _: stop.request())
            await stop.requested.wait()
            await server.drain(stop)
            # A generation that is activated now would not be closed.
            tasks[1].cancel()
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


async def _send_heartbeats(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(framed(Alive()))
        await asyncio.sleep(HEARTBEAT_S)
