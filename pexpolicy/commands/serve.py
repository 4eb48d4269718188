"""``pexpolicy serve``."""

from __future__ import annotations

import errno
import gc
import os
import sys
from contextlib import suppress
from pathlib import Path

import click

from pexpolicy import __version__, ending
from pexpolicy.admin import listener
from pexpolicy.commands.common import advise, built, config_option, fail, run
from pexpolicy.config import ConfigError
from pexpolicy.exposure import surroundings
from pexpolicy.logs import console_log
from pexpolicy.serving import serve as serving


@click.command()
@config_option
@click.option("--host", help="Address to listen on, instead of the configured one.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port, instead of the configured one.")
@click.option(
    "--admin-port", type=click.IntRange(0, 65535), help="Port for operators, the same way."
)
def serve(config: Path, host: str | None, port: int | None, admin_port: int | None) -> None:
    """Answer calls until SIGTERM or Ctrl-C."""
    # Nothing that is built here is garbage; the collector begins once the policy serves.
    gc.disable()
    policy = built(config, lambda settings: surroundings(settings, host))
    advise(policy)
    address = host or policy.settings.server.host
    number = policy.settings.server.port if port is None else port
    names = ", ".join(plugin.name for plugin in policy.plugins) or "none"

    log = console_log()
    admin = listener.bind(policy.settings, log, admin_port)
    told = f"; for operators: {listener.url_of(admin)}" if admin is not None else ""

    def announce(url: str) -> None:
        click.echo(f"pexpolicy {__version__} answers on {url} (plugins: {names}{told})", err=True)

    try:
        leftovers = run(
            serving(policy, log, (address, number), announce, ending.leave_within, admin),
            serving=True,
        )
    except ConfigError as error:
        fail(error)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else error.strerror
        taken = "; take another --port" if error.errno == errno.EADDRINUSE else ""
        click.secho(f"cannot listen on {address}:{number}: {why}{taken}", fg="red", err=True)
        sys.exit(1)
    # A plugin may have closed standard error.
    with suppress(OSError, ValueError):
        click.echo("stopped", err=True)
    if leftovers():
        ending.leave(leftovers)
