"""``pexpolicy serve``."""

from __future__ import annotations

import errno
import gc
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import click

from pexpolicy import ending
from pexpolicy.building import policy_from
from pexpolicy.commands.common import advise, built, config_option, fail, run
from pexpolicy.config import ConfigError
from pexpolicy.exposure import surroundings as exposed
from pexpolicy.logs import console_log
from pexpolicy.policy import Policy
from pexpolicy.serving import Surroundings
from pexpolicy.serving import serve as serving
from pexpolicy.stopping import stop_at_once


@click.command()
@config_option
@click.option("--host", help="Address to listen on, instead of the configured one.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port, instead of the configured one.")
def serve(config: Path, host: str | None, port: int | None) -> None:
    """Answer calls until SIGTERM or Ctrl-C."""
    # Nothing that is built here is garbage; the collector begins once the policy serves.
    gc.disable()
    stop_at_once()
    read_at = time.time()
    policy = built(config, lambda settings: exposed(settings, host))
    advise(policy)
    address = host or policy.settings.server.host
    number = policy.settings.server.port if port is None else port
    log = console_log()

    def build(content: bytes | None) -> Policy:
        return policy_from(
            config, lambda settings: exposed(settings, address), log=log, content=content
        )

    around = Surroundings(
        log, build, read_at, lambda line: click.echo(line, err=True), ending.leave_within
    )
    try:
        leftovers = run(serving(policy, (address, number), around), serving=True)
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
