"""``pexpolicy status``."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import click

from pexpolicy import showing
from pexpolicy.commands.common import config_option, fail
from pexpolicy.config import ConfigError, Settings, load
from pexpolicy.terminal import printable

PATIENCE = 5.0
"""Seconds for the server to answer."""
SILENT = 3600.0
"""Seconds without a call after which a node is named."""


@click.command()
@config_option
@click.option("--url", help="The server's listener for operators, instead of the configured one.")
@click.option(
    "--silent",
    type=click.FloatRange(min=0),
    default=SILENT,
    show_default=True,
    help="Seconds without a call after which a node is named.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(config: Path, url: str | None, silent: float, *, as_json: bool) -> None:
    """Show what runs, how it is, and which nodes have fallen silent. Exit with 1 when no server
    answers, or when it is not ready.
    """
    settings = _settings(config) if url is None or config.exists() else None
    address = url or _address(settings)
    token = settings.admin_token if settings is not None else None
    try:
        told = _asked(address, token.get_secret_value() if token is not None else None)
    except (OSError, ValueError) as error:
        click.secho(f"{address}: {error}", fg="red", err=True)
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        sys.exit(1)
    if url is None and not _is_same(config, told["config"]["path"]):
        theirs = printable(told["config"]["path"])
        text = f"note: {address} is a server with the configuration {theirs}, not with {config}"
        click.secho(f"{text}: give each an [admin] port of its own", fg="yellow", err=True)
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        showing.show_status(told, silent)
    sys.exit(0 if told["ready"] else 1)


def _settings(config: Path) -> Settings:
    """The configuration, as far as it can be read here: passwords may be the server's alone."""
    try:
        return load(config)
    except ConfigError as error:
        if error.salvaged is None:
            fail(error)
        return error.salvaged


def _is_same(config: Path, theirs: str) -> bool:
    """False where a server certainly has another configuration.

    A path that it was given relative to its own folder is compared as far as it goes.
    """
    if Path(theirs).is_absolute():
        return Path(theirs).resolve() == config.resolve()
    end = [part for part in Path(theirs).parts if part != ".."]
    return list(config.absolute().parts[-len(end) :]) == end


def _address(settings: Settings | None) -> str:
    assert settings is not None
    admin = settings.admin
    host = f"[{admin.host}]" if ":" in admin.host else admin.host
    return f"http://{host}:{admin.port}"


def _asked(address: str, token: str | None) -> dict[str, Any]:
    """The status of the server at an address; raises ``OSError`` and ``ValueError``."""
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    request = urllib.request.Request(f"{address}/status", headers=headers)  # noqa: S310 - asked for
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:  # noqa: S310 - the same
        told: dict[str, Any] = json.load(response)
    return told
