"""``pexpolicy healthcheck``."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click.core import ParameterSource

from pexpolicy.cli.common import config_option, settings_of
from pexpolicy.cli.http_client import NotAnsweredError, ServerUrl, ask, calls_url, operators_url

PATIENCE = 3.0
"""Seconds for the server to answer."""
USUAL = "http://127.0.0.1:8000"
INSTEAD = f"a server can be asked without it: pexpolicy healthcheck --url {USUAL}"


@click.command()
@config_option
@click.option(
    "--url",
    type=ServerUrl(),
    help=f"The server, instead of the configured one; {USUAL} where there is no configuration.",
)
@click.pass_context
def healthcheck(ctx: click.Context, config: Path, url: str | None) -> None:
    """Exit with 0 when a server is alive and ready, else with 1; with 78 where the configuration
    cannot be read.

    Without --url the configured host and port are asked, or the admin listener where [tls]
    or [access] may keep a check on this machine out.
    """
    named = ctx.get_parameter_source("config") is ParameterSource.COMMANDLINE
    address = url or (_configured(config) if named or config.exists() else USUAL)
    try:
        ask(f"{address}/readyz", PATIENCE, own=url is None)
    except NotAnsweredError as error:
        click.secho(f"{address}: {error}", fg="red", err=True)
        sys.exit(1)


def _configured(config: Path) -> str:
    settings = settings_of(config, INSTEAD)
    guarded = settings.tls is not None or bool(settings.access.networks)
    if guarded and settings.admin.enabled:
        return operators_url(settings)
    return calls_url(settings)
