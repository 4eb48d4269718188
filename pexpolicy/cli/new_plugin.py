"""Command ``pexpolicy new-plugin``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pexpolicy.cli import scaffold
from pexpolicy.cli.examples import examples
from pexpolicy.endpoints import ENDPOINTS


@click.command(
    "new-plugin",
    epilog=examples(
        "pexpolicy new-plugin blocklist",
        "pexpolicy new-plugin bookings --hook service_configuration --hook media_location",
    ),
)
@click.argument("name")
@click.option(
    "--directory",
    "-d",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    show_default=True,
    help="Parent folder of the package.",
)
@click.option(
    "--hook",
    "hooks",
    type=click.Choice(list(ENDPOINTS)),
    default=["service_configuration"],
    show_default=True,
    multiple=True,
    help="The request that the plugin answers; may be repeated.",
)
@click.option(
    "--package", help="Name of the package and its folder.  [default: pexpolicy-NAME]", default=""
)
def new_plugin(name: str, directory: Path, hooks: tuple[str, ...], package: str) -> None:
    """Write a package with a working, tested plugin NAME."""
    try:
        distribution = scaffold.distribution_name(package) if package else ""
        hooks = tuple(dict.fromkeys(hooks))
        plugin = scaffold.NewPlugin(scaffold.plugin_name(name), hooks, distribution)
        folder = scaffold.write(plugin, directory)
    except scaffold.ScaffoldError as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(2)
    click.echo(f"{folder} contains the plugin {plugin.name}. To try it:\n")
    for command in scaffold.next_steps(folder):
        click.echo(f"  {command}")
