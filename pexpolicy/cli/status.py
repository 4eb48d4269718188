"""``pexpolicy status``."""

from __future__ import annotations

import json
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Any

import click

from pexpolicy.cli import status_display
from pexpolicy.cli.common import config_option, load_or_exit
from pexpolicy.cli.http_client import NotAnsweredError, ServerUrl, admin_url, ask
from pexpolicy.config.loader import load
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.text import printable

PATIENCE = 5.0
"""Seconds for the server to answer."""
SILENT = 3600.0
"""Seconds without a call after which a node is named."""
ELSEWHERE = "the listener for operators is at admin.port, 9107 where nothing else is configured"

INSTEAD = "a server can be asked without it: pexpolicy status --url http://127.0.0.1:9107"


@click.command()
@config_option
@click.option(
    "--url",
    type=ServerUrl(),
    help="The server's listener for operators, instead of the configured one.",
)
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
    settings = load_or_exit(config, INSTEAD) if url is None else _beside(config)
    address = url or admin_url(settings or load_or_exit(config, INSTEAD))
    token = settings.admin_token if settings is not None else None
    try:
        told = _asked(address, token.get_secret_value() if token is not None else None)
    except NotAnsweredError as error:
        click.secho(f"{address}: {error}", fg="red", err=True)
        sys.exit(1)
    if url is None and not _is_same(config, told["config"]["path"]):
        theirs = printable(told["config"]["path"])
        text = f"note: {address} is a server with the configuration {theirs}, not with {config}"
        click.secho(f"{text}: give each an [admin] port of its own", fg="yellow", err=True)
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        status_display.show_status(told, silent)
    sys.exit(0 if told["ready"] else 1)


def _beside(config: Path) -> Settings | None:
    """The configuration that has the token for a server that was named; it may be broken."""
    if not config.exists():
        return None
    try:
        return load(config)
    except ConfigError as error:
        if error.salvaged is None:
            text = f"note: {config} cannot be read, so that no token is sent"
            click.secho(text, fg="yellow", err=True)
        return error.salvaged


def _is_same(config: Path, theirs: str) -> bool:
    """False where a server certainly has another configuration.

    A path that it was given relative to its own folder is compared as far as it goes.
    """
    if Path(theirs).is_absolute():
        return Path(theirs).resolve() == config.resolve()
    end = [part for part in Path(theirs).parts if part != ".."]
    return list(config.absolute().parts[-len(end) :]) == end


def _asked(address: str, token: str | None) -> dict[str, Any]:
    """The status of the server at an address; raises ``NotAnsweredError``."""
    told: object = None
    try:
        told = json.loads(ask(f"{address}/status", PATIENCE, token))
    except NotAnsweredError as error:
        if error.status == HTTPStatus.UNAUTHORIZED:
            raise NotAnsweredError(f"{error}: it wants the token of [admin]") from None
        if error.status == HTTPStatus.NOT_FOUND:
            raise NotAnsweredError(f"{error}: {ELSEWHERE}") from None
        raise
    except ValueError:
        pass
    if not isinstance(told, dict) or "ready" not in told:
        raise NotAnsweredError(f"what answers is not the status of a server: {ELSEWHERE}")
    return told
