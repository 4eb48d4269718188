"""``pexpolicy explain``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pexpolicy import listing
from pexpolicy.commands.common import built, config_option, fail, run
from pexpolicy.config import ConfigError
from pexpolicy.explain import NotARequestError
from pexpolicy.explain import explain as explained


@click.command()
@config_option
@click.argument("request_path", metavar="REQUEST")
@click.option("--show-secrets", is_flag=True, help="Print PINs and passwords of the reply, too.")
def explain(config: Path, request_path: str, *, show_secrets: bool) -> None:
    """Show how REQUEST is decided, step by step, and the exact reply.

    REQUEST is a request path with its query, a whole URL, or a line of Pexip's support log.
    """
    policy = built(config)

    async def show() -> None:
        async with policy.serving():
            listing.show_explained(await explained(policy, request_path), show_secrets=show_secrets)

    try:
        run(show())
    except NotARequestError as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(2)
    except ConfigError as error:
        fail(error)
