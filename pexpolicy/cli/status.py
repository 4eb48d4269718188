"""``pexpolicy status``."""

from __future__ import annotations

import json
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Any

import click

from pexpolicy.cli import status_display
from pexpolicy.cli.common import config_option, examples, json_option, load_or_exit, refuse
from pexpolicy.cli.http_client import (
    NotAnsweredError,
    ServerUrl,
    admin_url,
    ask,
    cacert_option,
)
from pexpolicy.config.loader import load
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.text import printable

TIMEOUT_S = 5.0
SILENT_S = 3600.0
ADMIN_PORT_HINT = "the admin listener is at admin.port, 9107 unless configured"
OTHER_PORT_HINT = "if it was started with --admin-port, or runs elsewhere, name it with --url"
WITHOUT_CONFIG = "a server can be asked without it: pexpolicy status --url http://127.0.0.1:9107"


@click.command(
    epilog=examples(
        "pexpolicy status",
        "pexpolicy status --strict --silent 60",
        "pexpolicy status --url https://policy.example.com:9107 --cacert ca.pem",
    )
)
@config_option
@click.option("--url", type=ServerUrl(), help="The admin listener, instead of the configured one.")
@cacert_option
@click.option(
    "--silent",
    type=click.FloatRange(min=0),
    default=SILENT_S,
    show_default=True,
    help="Seconds without a call after which a node is listed as silent.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Exit with 1 also when the last reload was refused or something is degraded.",
)
@json_option
def status(
    config: Path,
    url: str | None,
    cacert: Path | None,
    silent: float,
    *,
    strict: bool,
    as_json: bool,
) -> None:
    """Show the state of a running server, and the nodes that have stopped calling.

    Exit code 1 when no server answers or it is not ready.
    """
    if url is None:
        settings: Settings | None = load_or_exit(config, WITHOUT_CONFIG)
    else:
        settings = _settings_for_token(config)
    address = url or admin_url(settings or load_or_exit(config, WITHOUT_CONFIG))
    try:
        document = fetch_status(address, settings, cacert)
    except NotAnsweredError as error:
        hint = f"; {OTHER_PORT_HINT}" if url is None and error.status is None else ""
        refuse(f"{address}: {error}{hint}", 1)
    if url is None and not is_same_config(config, document["config"]["path"]):
        theirs = printable(document["config"]["path"])
        text = f"note: {address} is a server with the configuration {theirs}, not with {config}"
        click.secho(f"{text}: give each an [admin] port of its own", fg="yellow", err=True)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        status_display.show_status(document, silent)
    degraded = status_display.degradations(document) if strict else []
    for text in degraded:
        click.secho(f"degraded: {text}", fg="red", err=True)
    sys.exit(0 if document["ready"] and not degraded else 1)


def _settings_for_token(config: Path) -> Settings | None:
    """Return the configuration that may hold the token; it may be missing or invalid."""
    if not config.exists():
        return None
    try:
        return load(config)
    except ConfigError as error:
        if error.salvaged is None:
            text = f"note: {config} cannot be read, so no token is sent"
            click.secho(text, fg="yellow", err=True)
        return error.salvaged


def is_same_config(config: Path, server_path: str) -> bool:
    """Return False if the server certainly has another configuration.

    A relative path of the server is compared with the end of ours.
    """
    if Path(server_path).is_absolute():
        return Path(server_path).resolve() == config.resolve()
    end = [part for part in Path(server_path).parts if part != ".."]
    return list(config.absolute().parts[-len(end) :]) == end


def running_status(config: Path, settings: Settings) -> dict[str, Any] | None:
    """Return the status of the server that runs with a configuration."""
    if not settings.admin.enabled:
        return None
    try:
        document = fetch_status(admin_url(settings), settings)
    except NotAnsweredError:
        return None
    return document if is_same_config(config, document["config"]["path"]) else None


def fetch_status(
    address: str, settings: Settings | None, cacert: Path | None = None
) -> dict[str, Any]:
    """Return the status document of a server, asked with the token of the settings.

    Raises ``NotAnsweredError``.
    """
    token = settings.admin_token if settings is not None else None
    secret = token.get_secret_value() if token is not None else None
    document: object = None
    try:
        document = json.loads(ask(f"{address}/status", TIMEOUT_S, secret, cacert=cacert))
    except NotAnsweredError as error:
        if error.status == HTTPStatus.UNAUTHORIZED:
            text = f"{error}: it requires the token of [admin]"
            raise NotAnsweredError(text, error.status) from None
        if error.status == HTTPStatus.NOT_FOUND:
            raise NotAnsweredError(f"{error}: {ADMIN_PORT_HINT}", error.status) from None
        raise
    except (ValueError, RecursionError):
        pass
    if isinstance(document, dict):
        config = document.get("config")
        # Other programs say in a document of their own that they are ready.
        if isinstance(config, dict) and isinstance(config.get("path"), str):
            return document
    text = f"the reply is not the status of a server: {ADMIN_PORT_HINT}"
    raise NotAnsweredError(text, HTTPStatus.OK)
