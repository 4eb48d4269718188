"""``pexpolicy console`` and ``pexpolicy console login``."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import click

from pexpolicy.cli.for_console import EX_CONFIG, PORT, bind, config_option, refuse, url_of
from pexpolicy.config.secrets import SecretError
from pexpolicy.errors import describe_network_error
from pexpolicy_console.config_file import ConfigFile
from pexpolicy_console.login.sessions import VALID_S, LoginLinks, Role

NICENESS = 10
"""The calls of nodes are served first where both processes want the same processor."""


@click.group(
    invoke_without_command=True,
    epilog="\b\nExamples:\n"
    "  pexpolicy console --login\n"
    "  pexpolicy console --config /etc/pexpolicy/config.toml",
)
@config_option
@click.option("--port", type=PORT, help="Port, instead of the configured one.")
@click.option(
    "--admin-port", type=PORT, help="Port of the server, if it was started with --admin-port."
)
@click.option("--login", "with_link", is_flag=True, help="Print a login link at the start.")
@click.option(
    "--with-parent", type=int, metavar="PID", help="End as soon as this is not its parent process."
)
@click.pass_context
def console(
    context: click.Context,
    config: Path,
    port: int | None,
    admin_port: int | None,
    *,
    with_link: bool,
    with_parent: int | None,
) -> None:
    """Serve the web console of the server with the same configuration, until Ctrl-C.

    It is a process of its own: it reads the audit file and the admin listener, and takes no part in
    any call.
    """
    is_orphan = with_parent not in (None, os.getppid())
    if context.invoked_subcommand is not None or is_orphan:
        return
    from pexpolicy_console import server  # noqa: PLC0415 - it imports aiohttp

    os.nice(NICENESS)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    file = ConfigFile(config)
    if wrong := file.problems_of("console"):
        refuse("\n".join(wrong), EX_CONFIG)
    table = file.settings.console
    number = table.port if port is None else port
    try:
        parts = server.console_from(file, admin_port)
        listener = bind(table.host.strip("[]"), number)
    except server.ConsoleError as error:
        refuse(str(error), EX_CONFIG)
    except OSError as error:
        hint = "; choose another console.port or --port"
        refuse(f"cannot listen on {table.host}:{number}: {describe_network_error(error)}{hint}", 1)
    url = table.url or url_of(listener, "https" if table.tls else "http")

    def announce() -> None:
        click.echo(f"console: {url}", err=True)
        if with_link:
            link = _link(file.folder, url, "admin", Role.ADMIN.label)
            click.echo(f"log in once, within 15 minutes: {link}", err=True)
        else:
            click.echo(f"log in: pexpolicy console login --config {file.path}", err=True)

    try:
        asyncio.run(server.serve(parts, listener, announce, with_parent))
    except (server.ConsoleError, SecretError) as error:
        refuse(str(error), EX_CONFIG)


@console.command(epilog="\b\nExamples:\n  pexpolicy console login --user alice --role viewer")
@config_option
@click.option("--user", default="admin", show_default=True, help="Name in the console's audit.")
@click.option(
    "--role",
    type=click.Choice([role.label for role in Role]),
    default=Role.ADMIN.label,
    show_default=True,
    help="What the user may do.",
)
@click.option("--url", help="URL of the console, if it was started with --port.")
def login(config: Path, user: str, role: str, url: str | None) -> None:
    """Print a link that logs one browser in. It can be used once, within 15 minutes."""
    file = ConfigFile(config)
    table = file.settings.console
    scheme = "https" if table.tls else "http"
    shown = url or table.url or f"{scheme}://{table.host}:{table.port}"
    click.echo(_link(file.folder, shown, user, role))
    click.echo(f"valid once, for {VALID_S / 60:.0f} minutes", err=True)


def _link(folder: Path, url: str, user: str, role: str) -> str:
    try:
        token = LoginLinks(folder).create(user, Role[role.upper()])
    except FileNotFoundError:
        # Made by root, the console could not write to it.
        refuse(f"console.folder: {folder} does not exist: start the console first", 1)
    except OSError as error:
        refuse(f"console.folder: {folder / 'logins'} cannot be written: {error.strerror}", 1)
    return f"{url.rstrip('/')}/login?link={token}"
