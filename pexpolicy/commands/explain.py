"""``pexpolicy explain``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pexpolicy import listing
from pexpolicy.commands.common import built, config_option, fail, run
from pexpolicy.config import ConfigError
from pexpolicy.explain import Explained, NotARequestError
from pexpolicy.explain import explain as explained


@click.command()
@config_option
@click.argument("request_path", metavar="REQUEST")
@click.option("--show-secrets", is_flag=True, help="Print PINs and passwords of the reply, too.")
def explain(config: Path, request_path: str, *, show_secrets: bool) -> None:
    """Show how REQUEST is decided, step by step, and the exact reply.

    REQUEST is a request path with its query, a whole URL, or a line of Pexip's support log or of
    a proxy's. A path that the server would not answer, such as one without the base path, is told.
    """
    policy = built(config)
    answered: list[Explained] = []

    async def ask() -> None:
        async with policy.serving():
            answered.append(await explained(policy, request_path))

    try:
        run(ask())
    except NotARequestError as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(2)
    except ConfigError as error:
        fail(error)
    # Not on the loop: loading what draws a table would be held against the plugin asked last.
    for answer in answered:
        listing.show_explained(answer, show_secrets=show_secrets)
