"""The command line; every command works on the same policy that serves."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn

import click

from pexpolicy import __version__, ending
from pexpolicy.building import policy_from
from pexpolicy.config import ConfigError, Settings
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.exposure import surroundings
from pexpolicy.faults import blame
from pexpolicy.hidden import hide
from pexpolicy.logs import console_log
from pexpolicy.policy import Policy
from pexpolicy.probe.command import probe
from pexpolicy.problems import Problem

EX_CONFIG = 78
"""Exit code of a configuration that cannot be used (sysexits.h)."""

config_option = click.option(
    "--config",
    "-c",
    "config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("config.toml"),
    show_default=True,
    envvar="PEXPOLICY_CONFIG",
    help="The configuration file.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Answer the external policy calls of Pexip Infinity."""


main.add_command(probe)


def _built(path: Path, also: Callable[[Settings], list[Problem]] = lambda _: []) -> Policy:
    """The policy of a configuration, or every error on standard error and exit code 78."""
    try:
        return policy_from(path, also, log=console_log())
    except ConfigError as error:
        _fail(error)


def _fail(error: ConfigError) -> NoReturn:
    count = len(error.problems)
    click.secho(f"{error.path}: {count} error{'s' if count > 1 else ''}", fg="red", err=True)
    for problem in error.problems:
        click.echo(f"  {problem}", err=True)
    sys.exit(EX_CONFIG)


def _advise(policy: Policy) -> None:
    for advice in policy.advice:
        click.secho(f"warning: {advice}", fg="yellow", err=True)


def run(main_coroutine: Coroutine[Any, Any, None], *, serving: bool = False) -> None:
    """Run on an event loop. A server runs on uvloop where that is installed, and goes on whatever
    the tasks raise that plugins left behind.
    """
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if serving:
        try:
            from uvloop import new_event_loop as factory  # noqa: PLC0415 - an extra
        except ImportError:
            factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        task = loop.create_task(main_coroutine)
        if serving:
            hide(task)
        while not task.done():
            try:
                loop.run_until_complete(task)
            except RuntimeError:
                # A plugin that stops the loop must not stop the server.
                if task.done():
                    raise
            except (SystemExit, KeyboardInterrupt) as error:
                if task.done() or not serving:
                    raise
                console_log().warning(
                    "a task or callback that a plugin left behind failed",
                    error=blame(error).summary,
                )


@main.command()
@config_option
@click.option("--host", help="Address to listen on, instead of the configured one.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port, instead of the configured one.")
def serve(config: Path, host: str | None, port: int | None) -> None:
    """Answer calls until SIGTERM or Ctrl-C."""
    from pexpolicy.serving import serve  # noqa: PLC0415 - aiohttp, for this only

    # Nothing that is built here is garbage; the collector begins once the policy serves.
    gc.disable()
    policy = _built(config, lambda settings: surroundings(settings, host))
    _advise(policy)
    address = host or policy.settings.server.host
    number = policy.settings.server.port if port is None else port
    names = ", ".join(plugin.name for plugin in policy.plugins) or "none"

    def announce(url: str) -> None:
        click.echo(f"pexpolicy {__version__} answers on {url} (plugins: {names})", err=True)

    def stopping(seconds: float) -> None:
        ending.leave_within(seconds, lambda: policy.leftovers)

    try:
        run(serve(policy, console_log(), address, number, announce, stopping), serving=True)
    except ConfigError as error:
        _fail(error)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else error.strerror
        taken = "; take another --port" if error.errno == errno.EADDRINUSE else ""
        click.secho(f"cannot listen on {address}:{number}: {why}{taken}", fg="red", err=True)
        sys.exit(1)
    # A plugin may have closed standard error.
    with suppress(OSError, ValueError):
        click.echo("stopped", err=True)
    if policy.leftovers:
        ending.leave(lambda: policy.leftovers)


@main.command()
@config_option
def check(config: Path) -> None:
    """Check the configuration; all errors and warnings at once. Exit code 78 when it cannot be
    used.
    """
    policy = _built(config, surroundings)
    _advise(policy)
    names = ", ".join(plugin.name for plugin in policy.plugins) or "no plugins"
    count = len(policy.advice)
    warnings = f", {count} warning{'s' if count > 1 else ''}" if count else ""
    click.secho(f"{config}: valid{warnings} ({names}; {policy.settings.config_hash})", fg="green")


@main.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins(config: Path, *, as_json: bool) -> None:
    """List the plugins: the order in which they are asked, and what is installed."""
    from pexpolicy import listing  # noqa: PLC0415 - rich, for this only

    policy = _built(config)
    listed = listing.plugins(policy)
    if as_json:
        click.echo(json.dumps(listed, indent=2))
    else:
        listing.show_plugins(listed)


@main.command()
@config_option
@click.argument("request_path", metavar="REQUEST")
@click.option("--show-secrets", is_flag=True, help="Print PINs and passwords of the reply, too.")
def explain(config: Path, request_path: str, *, show_secrets: bool) -> None:
    """Show how REQUEST is decided, step by step, and the exact reply.

    REQUEST is a request path with its query, a whole URL, or a line of Pexip's support log.
    """
    from pexpolicy import listing  # noqa: PLC0415 - rich, for this only
    from pexpolicy.explain import NotARequestError, explain  # noqa: PLC0415

    policy = _built(config)

    async def show() -> None:
        async with policy.serving():
            listing.show_explained(await explain(policy, request_path), show_secrets=show_secrets)

    try:
        run(show())
    except NotARequestError as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(2)
    except ConfigError as error:
        _fail(error)


@main.command()
@config_option
@click.argument("cases", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--only", "-k", default="", metavar="TEXT", help="Cases with TEXT in their name.")
@click.option(
    "--junit",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the report as JUnit XML.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def test(
    config: Path, cases: tuple[Path, ...], only: str, junit: Path | None, *, as_json: bool
) -> None:
    """Run files of requests and expected decisions against the configured policy.

    Exit code 0: all as expected. 1: not all. 2: no case ran, or wrong usage. 78: the configuration
    cannot be used.
    """
    from pexpolicy.kit.command import run_files  # noqa: PLC0415 - for this only

    sys.exit(run_files(_built(config), cases, only, junit, print_json=as_json))


@main.command()
@click.argument("name", required=False, default="")
@click.option("--markdown", is_flag=True, help="Print the reference of the contract instead.")
def schema(name: str, *, markdown: bool) -> None:
    """Print JSON Schema for each request and each reply, or for the one called NAME.

    NAME is a request such as media_location, or one part of it: media_location.reply.
    """
    from pexpolicy.contract import reference, schema  # noqa: PLC0415 - for this only

    if markdown:
        click.echo(reference.page(), nl=False)
        return
    try:
        document = schema.document(name)
    except schema.UnknownSchemaError:
        known = ", ".join(schema.names())
        raise click.BadParameter(f"there is no {name!r}; there are {known}") from None
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


@main.command("new-plugin")
@click.argument("name")
@click.option(
    "--directory",
    "-d",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    show_default=True,
    help="Where the folder of the package is put.",
)
@click.option(
    "--hook",
    type=click.Choice(list(ENDPOINTS)),
    default="service_configuration",
    show_default=True,
    help="The question that the plugin answers.",
)
def new_plugin(name: str, directory: Path, hook: str) -> None:
    """Write a package with a new plugin NAME: it decides calls as it is, and is tested."""
    from pexpolicy import scaffold  # noqa: PLC0415 - for this only

    try:
        plugin = scaffold.NewPlugin(scaffold.plugin_name(name), hook)
        folder = scaffold.write(plugin, directory)
    except scaffold.ScaffoldError as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(2)
    click.echo(f"{folder} holds the plugin {plugin.name}. To try it:\n")
    for command in scaffold.next_steps(folder):
        click.echo(f"  {command}")


@main.command()
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="The server.")
def healthcheck(url: str) -> None:
    """Exit with 0 when a server is alive and ready, else with 1."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=3) as response:  # noqa: S310 - asked for
            healthy = response.status == HTTPStatus.OK
    except (urllib.error.URLError, OSError, ValueError) as error:
        click.echo(f"{url}: {error}", err=True)
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        sys.exit(1)
    sys.exit(0 if healthy else 1)
