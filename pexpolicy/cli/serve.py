"""``pexpolicy serve``."""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import click

from pexpolicy.access.warnings import preflight_problems
from pexpolicy.builder import policy_from, starting_policy
from pexpolicy.cli.common import (
    PORT,
    capture_log,
    config_option,
    examples,
    flag,
    print_errors,
    print_warnings,
    refuse,
    warn,
)
from pexpolicy.config.files import CLOCK_STEP
from pexpolicy.config.loader import load
from pexpolicy.config.problems import Problem
from pexpolicy.config.settings import PRESENT, ConfigError, PluginStartupError, Settings
from pexpolicy.errors import describe_network_error
from pexpolicy.fleet.bundle import BundleSource
from pexpolicy.fleet.policy_hash import prepare_state_dir
from pexpolicy.policy import BuildContext
from pexpolicy.server.http.listener import bind
from pexpolicy.server.lifecycle import ServerContext
from pexpolicy.server.lifecycle import serve as run_server
from pexpolicy.server.process import install_startup_signals, run
from pexpolicy.server.route_listeners import bind as bind_others


@click.command(
    epilog=examples(
        "pexpolicy serve",
        "pexpolicy serve --config /etc/pexpolicy/config.toml --port 8001",
    )
)
@config_option
@click.option("--host", help="Address to listen on, instead of the configured one.")
@click.option("--port", type=PORT, help="Port, instead of the configured one.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    help="Number of worker processes, instead of the configured one.",
)
@click.option(
    "--admin-port", type=PORT, help="Port of the admin listener, instead of the configured one."
)
@flag(
    "--no-last-good",
    help="Fail if the files are refused, instead of starting from the last good ones.",
)
@flag(
    "--debug",
    help="For authors of plugins: one process, no time limits, full tracebacks of all failures.",
)
def serve(
    config: Path,
    host: str | None,
    port: int | None,
    workers: int | None,
    admin_port: int | None,
    *,
    no_last_good: bool,
    debug: bool,
) -> None:
    """Answer calls until SIGTERM or Ctrl-C."""
    # A core dump would hold passwords and PINs.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    gc.disable()  # until the server listens
    install_startup_signals()
    ports = port, admin_port
    log, handler = capture_log(debug=debug)
    options = BuildContext(log=log, time_limits=not debug)
    bundles = BundleSource(log)
    _fetch_first(config, bundles)
    read_at = time.time()
    start = policy_from if no_last_good else starting_policy
    policy = start(config, partial(_prepare, host=host, ports=ports), options)
    handler.use(policy.log_levels)
    if policy.fallback is not None:
        print_errors(policy.fallback.error)
        problem = str(policy.fallback.error.problems[0])
        log.warning("the last good files are used", reason=str(policy.fallback), error=problem)
    print_warnings(policy)
    if debug:
        warn("--debug: no time limits apply, and nodes wait 5 seconds: not for a server in use")
    address = host or policy.settings.server.host
    number = policy.settings.server.port if port is None else port
    count = 1 if debug else workers or policy.settings.server.workers
    has_events = policy.settings.events is not None
    options = policy.context
    preflight = partial(
        preflight_problems, host=address, running_admin=policy.settings.admin, ports=ports
    )
    admin, api = bind_others(policy.settings, log, admin_port)
    context = ServerContext(
        config,
        lambda content: policy_from(config, preflight, options, content=content),
        log,
        echo=log.output.write,
        admin=admin,
        api=api,
        bundles=bundles,
        on_activation=lambda active: handler.use(active.log_levels),
        log_thread=log.output.background,
        start=lambda content: start(config, preflight, options, content=content),
    )
    try:
        # Before the audit is opened, so that a port in use leaves no line in it.
        with admin or nullcontext(), api or nullcontext(), bind(address, number) as listener:
            if count > 1:
                from pexpolicy.server.workers import (  # noqa: PLC0415 - it is large
                    Supervisor,
                    content_of,
                )

                policy.close()
                del policy
                # It forks, and must not have threads of its own.
                log.output.never_wait()
                Supervisor(
                    count, content_of(config), read_at, listener, context, has_events=has_events
                ).run()
            else:
                server = run_server(policy, listener, read_at, context)
                del policy
                with context.log_thread():
                    run(server)
    except OSError as error:
        where = error.filename or f"{address}:{number}"
        refuse(f"cannot listen on {where}: {describe_network_error(error)}", 1)
    log.output.write("stopped")


def _fetch_first(config: Path, bundles: BundleSource) -> None:
    """Fetch the bundle; without it start with that on the disk, and raise if there was none."""
    try:
        settings = load(config)
    except ConfigError as error:
        if error.salvaged is None:
            return  # the build says more
        settings = error.salvaged
    if settings.bundle is None:
        return
    problem = asyncio.run(bundles.pull(settings, starting=True))
    time.sleep(CLOCK_STEP)  # what it has written is older than the configuration that is read now
    if problem and not (settings.bundles / PRESENT).exists():
        key = ("bundle", "url")
        raise PluginStartupError(config, [Problem(key, f"there is no bundle yet: {problem}")])


def _prepare(settings: Settings, **given: Any) -> list[Problem]:
    """Return what keeps the server from starting; create its state folder before it is built."""
    if why := prepare_state_dir(settings):
        warn(why)
    return [*preflight_problems(settings, **given)]
