"""``pexpolicy schema``."""

from __future__ import annotations

import json

import click

from pexpolicy.cli.examples import examples
from pexpolicy.endpoints import schema as documents


@click.command(
    epilog=examples("pexpolicy schema > schemas.json", "pexpolicy schema media_location.reply")
)
@click.argument("name", required=False, default="")
def schema(name: str) -> None:
    """Print JSON Schema of all requests and replies, or of NAME only.

    NAME is a request type such as media_location, or a part of it: media_location.reply.
    """
    try:
        document = documents.document(name)
    except documents.UnknownSchemaError:
        known = ", ".join(documents.names())
        raise click.BadParameter(f"there is no {name!r}; there are {known}") from None
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
