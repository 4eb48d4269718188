"""``pexpolicy schema``."""

from __future__ import annotations

import json

import click

from pexpolicy import __version__
from pexpolicy.cli.examples import examples
from pexpolicy.endpoints import schema as documents
from pexpolicy.endpoints.openapi import openapi


@click.command(
    epilog=examples(
        "pexpolicy schema > schemas.json",
        "pexpolicy schema media_location.reply",
        "pexpolicy schema --openapi > openapi.json",
    )
)
@click.argument("name", required=False, default="")
@click.option("--openapi", "as_openapi", is_flag=True, help="Print OpenAPI 3.1 of all requests.")
def schema(name: str, *, as_openapi: bool) -> None:
    """Print JSON Schema of all requests and replies, or of NAME only.

    NAME is a request type such as media_location, or a part of it: media_location.reply.
    """
    if as_openapi:
        if name:
            raise click.UsageError("--openapi describes all requests: leave the name out")
        click.echo(json.dumps(openapi(__version__), indent=2, ensure_ascii=False))
        return
    try:
        document = documents.document(name)
    except documents.UnknownSchemaError:
        known = ", ".join(documents.names())
        raise click.BadParameter(f"there is no {name!r}; there are {known}") from None
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
