"""``pexpolicy schema``."""

from __future__ import annotations

import json

import click

from pexpolicy.contract import reference
from pexpolicy.contract import schema as documents


@click.command()
@click.argument("name", required=False, default="")
@click.option("--markdown", is_flag=True, help="Print the reference of the contract instead.")
def schema(name: str, *, markdown: bool) -> None:
    """Print JSON Schema for each request and each reply, or for the one called NAME.

    NAME is a request such as media_location, or one part of it: media_location.reply.
    """
    if markdown:
        click.echo(reference.page(), nl=False)
        return
    try:
        document = documents.document(name)
    except documents.UnknownSchemaError:
        known = ", ".join(documents.names())
        raise click.BadParameter(f"there is no {name!r}; there are {known}") from None
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
