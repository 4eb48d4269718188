"""``pexpolicy healthcheck``."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from pexpolicy.cli.common import config_option, examples, load_or_exit, refuse
from pexpolicy.cli.http_client import NotAnsweredError, ServerUrl, admin_url, ask, calls_url

TIMEOUT_S = 3.0
"""Seconds for the server to answer."""
DEFAULT_URL = "http://127.0.0.1:8000"
HINT = f"a server can be checked without it: pexpolicy healthcheck --url {DEFAULT_URL}"


@click.command(
    epilog=examples("pexpolicy healthcheck", "pexpolicy healthcheck --url http://127.0.0.1:9107")
)
@config_option
@click.option(
    "--url",
    type=ServerUrl(),
    help=f"The server, instead of the configured one; {DEFAULT_URL} without a configuration.",
)
@click.pass_context
def healthcheck(ctx: click.Context, config: Path, url: str | None) -> None:
    """Exit with 0 if a server is ready, with 1 if not, with 78 for an invalid configuration.

    Without --url the check uses the configured host and port, or the admin listener if [tls] or
    [access] is configured and may reject a check from this machine.
    """
    explicit = ctx.get_parameter_source("config") is ParameterSource.COMMANDLINE
    address = url or (_configured_url(config) if explicit or config.exists() else DEFAULT_URL)
    try:
        ask(f"{address}/readyz", TIMEOUT_S, own=url is None)
    except NotAnsweredError as error:
        refuse(f"{address}: {error}", 1)


def _configured_url(config: Path) -> str:
    settings = load_or_exit(config, HINT)
    restricted = settings.tls is not None or bool(settings.access.networks)
    if restricted and settings.admin.enabled:
        return admin_url(settings)
    return calls_url(settings)
