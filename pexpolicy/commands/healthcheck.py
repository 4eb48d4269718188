"""``pexpolicy healthcheck``."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from http import HTTPStatus

import click


@click.command()
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
