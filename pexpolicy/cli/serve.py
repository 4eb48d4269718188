"""``pexpolicy serve``."""

from __future__ import annotations

import errno
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path

import click

from pexpolicy.cli.common import Port, advise, built, config_option, fail
from pexpolicy.config.settings import ConfigError
from pexpolicy.errors import describe_network_error
from pexpolicy.log import console_log
from pexpolicy.observability.shared_memory import SharedCounters
from pexpolicy.server import gc_tuning, shutdown
from pexpolicy.server.admin import listener
from pexpolicy.server.admin.listener import AdminEndpoint
from pexpolicy.server.event_loop import run
from pexpolicy.server.http.listener import bound
from pexpolicy.server.lifecycle import Leftovers, ServerContext
from pexpolicy.server.lifecycle import serve as serving
from pexpolicy.server.preflight import preflight_problems as exposed
from pexpolicy.server.shutdown import install_startup_signals


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
    # A core dump would hold passwords and PINs.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    gc_tuning.pause_until_serving()
    install_startup_signals()
    read_at = time.time()
    ports = port, admin_port
    policy = built(config, lambda settings: exposed(settings, host, ports=ports))
    advise(policy)
    address = host or policy.settings.server.host
    number = policy.settings.server.port if port is None else port
    count = workers or policy.settings.server.workers
    log = console_log()

    # A worker that ends, and the one that takes its place, are there at the same time.
    board = SharedCounters(2 * count if count > 1 else 1)
    operators = AdminEndpoint(listener.bind(policy.settings, log, admin_port), board)
    context = ServerContext(
        config, address, policy.settings.admin, log, say, ports=ports, operators=operators
    )
    leftovers: Leftovers = list
    try:
        with operators:
            if count > 1:
                from pexpolicy.server.workers.supervisor import Supervisor  # noqa: PLC0415 - it is large

                policy.close()
                listeners = bound(address, number)
                Supervisor(count, config.read_bytes(), read_at, listeners, context).run()
            else:
                main = serving(policy, (address, number), read_at, context)
                leftovers = run(main, serving=True)
    except ConfigError as error:
        fail(error)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        hint = "; take another server.port or --port" if taken else ""
        click.secho(
            f"cannot listen on {address}:{number}: {describe_network_error(error)}{hint}",
            fg="red",
            err=True,
        )
        sys.exit(1)
    # A plugin may have closed standard error.
    with suppress(OSError, ValueError):
        say("stopped")
    if leftovers():
        shutdown.force_exit(leftovers)


def say(line: str) -> None:
    """Print a line for the operator."""
    click.echo(line, err=True)
