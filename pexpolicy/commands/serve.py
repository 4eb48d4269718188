"""``pexpolicy serve``."""

from __future__ import annotations

import errno
import socket
import sys
import time
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

import click

from pexpolicy import ending, gc_tuning
from pexpolicy.admin import listener
from pexpolicy.admin.listener import Operators
from pexpolicy.building import policy_from
from pexpolicy.commands.common import Port, advise, built, config_option, fail
from pexpolicy.config import ConfigError, OpeningError
from pexpolicy.event_loop import run
from pexpolicy.exposure import surroundings as exposed
from pexpolicy.listeners import bound
from pexpolicy.logs import console_log
from pexpolicy.metrics.board import Board
from pexpolicy.policy import Policy
from pexpolicy.problems import Problem
from pexpolicy.reload.occasions import Occasions
from pexpolicy.reload.reloading import Build, Reloads
from pexpolicy.serving import Leftovers, Surroundings, announcement
from pexpolicy.serving import serve as serving
from pexpolicy.stopping import Stop, stop_at_once
from pexpolicy.unreached import why


@click.command()
@config_option
@click.option("--host", help="Address to listen on, instead of the configured one.")
@click.option("--port", type=Port(), help="Port, instead of the configured one.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    help="Processes that answer calls, instead of the configured number.",
)
@click.option("--admin-port", type=Port(), help="Port for operators, the same way.")
def serve(
    config: Path,
    host: str | None,
    port: int | None,
    workers: int | None,
    admin_port: int | None,
) -> None:
    """Answer calls until SIGTERM or Ctrl-C."""
    gc_tuning.pause_until_serving()
    stop_at_once()
    read_at = time.time()
    ports = port, admin_port
    policy = built(config, lambda settings: exposed(settings, host, ports=ports))
    advise(policy)
    address = host or policy.settings.server.host
    number = policy.settings.server.port if port is None else port
    count = workers or policy.settings.server.workers
    admin = policy.settings.admin
    log = console_log()

    def build(content: bytes | None) -> Policy:
        return policy_from(
            config,
            lambda settings: exposed(settings, address, admin, ports),
            log=log,
            content=content,
        )

    def occasions(reloads: Reloads, _: Stop) -> AbstractAsyncContextManager[None]:
        return Occasions(reloads, log, say, read_at).taken()

    def answering(served: Policy, url: str) -> None:
        say(announcement(served, url, operators))

    # A worker that ends, and the one that takes its place, are there at the same time.
    board = Board(2 * count if count > 1 else 1)
    operators = Operators(listener.bind(policy.settings, log, admin_port), board)
    leftovers: Leftovers = list
    try:
        with operators:
            if count > 1:
                policy.close()
                listeners = bound(address, number)
                serve_by_workers(config, read_at, count, listeners, build, operators)
            else:
                stopping = ending.leave_within
                around = Surroundings(log, build, occasions, answering, stopping, operators)
                leftovers = run(serving(policy, (address, number), around), serving=True)
    except ConfigError as error:
        fail(error)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        hint = "; take another server.port or --port" if taken else ""
        click.secho(f"cannot listen on {address}:{number}: {why(error)}{hint}", fg="red", err=True)
        sys.exit(1)
    # A plugin may have closed standard error.
    with suppress(OSError, ValueError):
        say("stopped")
    if leftovers():
        ending.leave(leftovers)


def say(line: str) -> None:
    """Print a line for the operator."""
    click.echo(line, err=True)


def serve_by_workers(
    config: Path,
    read_at: float,
    count: int,
    listeners: list[socket.socket],
    build: Build,
    operators: Operators,
) -> None:
    """Serve by several processes, until a signal ends them."""
    from pexpolicy.workers.arbiter import Plan, run_workers  # noqa: PLC0415 - for those who ask for it

    refused = run_workers(
        Plan(config, config.read_bytes(), read_at, count, listeners, build, say, operators)
    )
    if refused is not None:
        kind = OpeningError if refused.temporary else ConfigError
        raise kind(config, [Problem((), text) for text in refused.problems])
