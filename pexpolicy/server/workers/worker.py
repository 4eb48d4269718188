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
from pexpolicy.server.workers.messages import (
    ORDERS,
    Alive,
    Merged,
    Refresh,
    Refused,
    ReloadOrder,
    Report,
    Serving,
    framed,
    next_message,
)
from pexpolicy.server.workers.metrics import HEARTBEAT_S, WorkerMetrics
from pexpolicy.server.workers.reload_participant import ReloadParticipant
from pexpolicy.tasks import hide


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

    def report(message: Report) -> None:
        writer.write(framed(message))

    metrics: WorkerMetrics | None = None

    async def send_heartbeats() -> None:
        while True:
            if metrics is None:
                report(Alive())
            else:
                await metrics.send()
            await asyncio.sleep(HEARTBEAT_S)

    tasks = [asyncio.create_task(send_heartbeats())]
    hide(tasks[0])
    stop = ShutdownSignal()
    try:
        policy = await run_in_build_thread(lambda: context.build(content))
        async with started(policy, listeners, stop, context) as server:
            files = tuple(map(str, policy.files))
            metrics = WorkerMetrics(server.telemetry, report)
            await metrics.send()
            report(Serving(server.announcement, policy.config_hash, files))
            del policy
            orders: asyncio.Queue[ReloadOrder] = asyncio.Queue()
            tasks.append(asyncio.create_task(_read(reader, orders, metrics)))
            reloads = ReloadParticipant(server.reloader, orders, report)
            tasks.append(asyncio.create_task(reloads.run()))
            for task in tasks:
                hide(task)
            # A worker without a supervisor must stop: nothing else would reload or stop it.
            tasks[1].add_done_callback(lambda _: stop.request())
            await stop.requested.wait()
            await server.drain(stop)
            # A generation that is activated now would not be closed.
            tasks[2].cancel()
    except ConfigError as error:
        problems = tuple(map(str, error.problems))
        report(Refused(problems, isinstance(error, PluginStartupError)))
        await writer.drain()
        return list
    finally:
        for task in tasks:
            task.cancel()
        if metrics is not None:
            metrics.send_last()
        writer.close()
    return server.leftovers


async def _read(
    reader: asyncio.StreamReader, reloads: asyncio.Queue[ReloadOrder], metrics: WorkerMetrics
) -> None:
    """Read orders until the supervisor has ended; a reload takes time, and metrics do not wait."""
    while (order := await next_message(reader, ORDERS)) is not None:
        if isinstance(order, Refresh | Merged):
            metrics.receive(order)
        else:
            reloads.put_nowait(order)
