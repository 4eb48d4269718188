"""``pexpolicy hash-password``."""

from __future__ import annotations

import sys

import click

from pexpolicy.access.warnings import MIN_PASSWORD_LENGTH
from pexpolicy.cli.common import examples
from pexpolicy.config.credentials import PasswordHash
from pexpolicy.text import is_utf8


@click.command(
    "hash-password",
    epilog=examples("pexpolicy hash-password", "pexpolicy hash-password < password.txt"),
)
def hash_password() -> None:
    """Print the hash of a password, for password_hash in [auth] or [[auth.credentials]].

    On a terminal it prompts for the password twice. Otherwise it reads one line from standard
    input; line ends after it are ignored.
    """
    if sys.stdin is None:  # as in: pexpolicy hash-password <&-
        raise click.UsageError("there is no password on standard input")
    if sys.stdin.isatty():
        password = str(
            click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        )
    else:
        password = sys.stdin.read().rstrip("\r\n")
    if not password:
        raise click.UsageError("there is no password on standard input")
    if not is_utf8(password):
        raise click.UsageError("the password is not UTF-8 text")
    if "\n" in password or "\r" in password:
        raise click.UsageError("there are several lines on standard input; a password is one line")
    if len(password) < MIN_PASSWORD_LENGTH:
        text = f"warning: the password is shorter than {MIN_PASSWORD_LENGTH} characters"
        click.secho(text, fg="yellow", err=True)
    click.echo(str(PasswordHash.create(password)))
