"""Commands ``pexpolicy config`` and ``pexpolicy hash-password``."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from difflib import unified_diff
from pathlib import Path

import click
import msgspec

from pexpolicy.access.warnings import MIN_PASSWORD_LENGTH
from pexpolicy.cli.common import (
    config_option,
    examples,
    flag,
    json_option,
    print_json,
    refuse,
    usable,
    warn,
)
from pexpolicy.config.files import EncodingError, FileUser, decode_text, read_file, write_own
from pexpolicy.config.secrets import PasswordHash
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.endpoints.schema import document
from pexpolicy.fleet import last_good
from pexpolicy.fleet.last_good import Activation
from pexpolicy.plugins.discovery import config_schema, installed
from pexpolicy.testing.report import Table, print_parts
from pexpolicy.text import is_utf8, printable, printable_lines

EXAMPLES = examples(
    "pexpolicy config schema > config.schema.json",
    "pexpolicy config schema requests",
    "pexpolicy config history",
    "pexpolicy config diff 9786f094e2794e33",
    "pexpolicy config restore 9786f094e2794e33 --yes",
)


@click.group(epilog=EXAMPLES)
def config() -> None:
    """Describe the configuration file, and go back to one that was active."""


@config.command(epilog=EXAMPLES)
@click.argument(
    "name",
    type=click.Choice(["config", "requests"]),
    default="config",
    metavar="[NAME]",
)
def schema(name: str) -> None:
    """Print JSON Schema of config.toml with the settings of the installed plugins.

    An editor uses it for completion and errors: save it as config.schema.json, and begin
    config.toml with #:schema ./config.schema.json

    With requests, print that of all requests and replies.
    """
    found = config_schema(installed()) if name == "config" else document()
    click.echo(json.dumps(found, indent=1, ensure_ascii=False))


# ---- what was active


def _state_of(config: Path) -> tuple[Path, Settings | None]:
    """Return the state folder of the server, and the settings as far as they can be read."""
    settings = None
    with suppress(ConfigError):
        settings = usable(config)
    return last_good.state_folder(config, settings), settings


def _kept(folder: Path, config: Path, name: str) -> Activation:
    """Return the latest activation with this policy hash, or with one that begins so."""
    kept = _history(folder, config)
    found = [one for one in kept if one.policy_hash.startswith(name)]
    if not found or len({one.policy_hash for one in found}) > 1:
        known = ", ".join(dict.fromkeys(one.policy_hash for one in found or kept)) or "none"
        refuse(f"{name} is not the hash of one configuration in {folder}; there are: {known}")
    return found[0]


def _history(folder: Path, config: Path) -> list[Activation]:
    if folder.exists() and not os.access(folder, os.R_OK | os.X_OK):
        owner = FileUser(folder.stat().st_uid, 0, ())
        refuse(f"{folder} belongs to {owner}: run the command as this user or as root")
    return last_good.history(folder, config)


@config.command(epilog=EXAMPLES)
@config_option
@json_option
def history(config: Path, *, as_json: bool) -> None:
    """List the last ten configurations that were active, the latest first."""
    folder, _ = _state_of(config)
    kept = _history(folder, config)
    if as_json:
        print_json(msgspec.to_builtins(kept))
        return
    if not kept:
        click.echo(f"nothing is kept in {folder}", err=True)
    rows = ((k.moment, k.policy_hash, k.version, k.author, "; ".join(k.changes)) for k in kept)
    print_parts([Table(("active since", "policy", "version", "by", "changes"), rows)])


@config.command(epilog=EXAMPLES)
@config_option
@click.argument("name", metavar="HASH")
def diff(config: Path, name: str) -> None:
    """Show what differs between the files that were active and the present ones."""
    folder, settings = _state_of(config)
    kept = _kept(folder, config, name)
    for path in last_good.changed_files(kept):
        present = b""
        with suppress(OSError):
            present = read_file(path)
        try:
            before, now = map(decode_text, (last_good.copy_of(folder, kept, str(path)), present))
        except EncodingError:
            click.echo(f"{printable(path)} differs, and is not text")
            continue
        names = f"{path} ({kept.policy_hash})", f"{path} ({'now' if path.exists() else 'missing'})"
        for line in unified_diff(before.splitlines(), now.splitlines(), *names, lineterm=""):
            colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
            click.secho(printable_lines(line), fg=colour)
    _warn_of_secrets(kept, settings)


@config.command(epilog=EXAMPLES)
@config_option
@click.argument("name", metavar="HASH")
@flag("--yes", help="Write the files; without it they are listed.")
def restore(config: Path, name: str, *, yes: bool) -> None:
    """Write the files that were active in place of the present ones.

    A running server reloads them. Files that were not there then stay. Secret files are not kept:
    the present ones are used.
    """
    folder, settings = _state_of(config)
    kept = _kept(folder, config, name)
    changed = last_good.changed_files(kept)
    copies = {path: last_good.copy_of(folder, kept, str(path)) for path in changed}
    # Another user chose these paths: root writes for the configuration only.
    trusted = folder.stat().st_uid == os.geteuid()
    home = config.absolute().parent.resolve()
    for path in changed:
        target = path.resolve()
        if settings is not None and target.is_relative_to(settings.bundles.resolve()):
            warn(f"{path} stays: build the earlier bundle with a higher sequence")
        elif not (trusted or target.is_relative_to(home)):
            source = folder / "objects" / kept.files[str(path)]
            warn(f"{path} is outside {home}, and stays: cp {source} {path}")
        elif yes:
            like = next(one for one in (target, config, home) if one.exists())
            target.parent.mkdir(parents=True, exist_ok=True)
            write_own(target, copies[path], sync=True, like=like.stat())
            click.echo(f"written: {printable(path)}")
        else:
            click.echo(f"to write: {printable(path)}")
    _warn_of_secrets(kept, settings)
    if not changed:
        click.echo("all files are as they were")
    elif not yes:
        refuse("nothing was written: add --yes", 1)


def _warn_of_secrets(kept: Activation, settings: Settings | None) -> None:
    if settings is not None:
        for path in last_good.changed_secrets(kept, settings):
            warn(f"{path} is another secret now than then, and is not kept")


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
