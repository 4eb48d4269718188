"""Commands ``pexpolicy config`` and ``pexpolicy hash-password``."""

from __future__ import annotations

import json
import sys

import click

from pexpolicy.access.warnings import MIN_PASSWORD_LENGTH
from pexpolicy.cli.common import examples, warn
from pexpolicy.config.credentials import PasswordHash
from pexpolicy.endpoints import schema as documents
from pexpolicy.plugins.config_schema import config_schema
from pexpolicy.plugins.discovery import installed
from pexpolicy.text import is_utf8

EXAMPLES = examples(
    "pexpolicy config schema > config.schema.json",
    "pexpolicy config schema media_location.reply",
)


@click.group(epilog=EXAMPLES)
def config() -> None:
    """Describe the configuration file, requests and replies."""


@config.command(epilog=EXAMPLES)
@click.argument("name", default="config")
def schema(name: str) -> None:
    """Print JSON Schema of config.toml with the settings of the installed plugins.

    An editor uses it for completion and errors: save it as config.schema.json, and begin
    config.toml with #:schema ./config.schema.json

    NAME is requests for all requests and replies, a request type such as media_location, or a part
    of it such as media_location.reply.
    """
    try:
        if name == "config":
            document = config_schema(installed())
        else:
            document = documents.document("" if name == "requests" else name)
    except documents.UnknownSchemaError:
        known = ", ".join(("config", "requests", *documents.names()))
        raise click.BadParameter(f"there is no {name!r}; there are {known}") from None
    click.echo(json.dumps(document, indent=1, ensure_ascii=False))


@click.command(
    "hash-password",
    epilog=examples("pexpolicy hash-password", "pexpolicy hash-password < password.txt"),
)
def hash_password() -> None:
    """Print the hash of a password.

    It is for password_hash in [auth] or [[auth.credentials]]. On a terminal it prompts for the
    password twice. Otherwise it reads one line from standard input; line ends after it are ignored.
    """
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.read().rstrip("\r\n")
    if not password or len(password.splitlines()) > 1 or not is_utf8(password):
        raise click.UsageError("standard input is not a password: one line of UTF-8 text")
    if len(password) < MIN_PASSWORD_LENGTH:
        warn(f"the password is shorter than {MIN_PASSWORD_LENGTH} characters")
    click.echo(str(PasswordHash.create(password)))
