"""The input of the audit commands, and the errors of what cannot be read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from pexpolicy.audit import reader
from pexpolicy.audit.redaction import keyed_hash
from pexpolicy.cli.common import config_option, fail
from pexpolicy.config.loader import load
from pexpolicy.config.settings import ConfigError, Settings

Command = TypeVar("Command", bound=Callable[..., Any])
NOT_UNDERSTOOD = 2
INSTEAD = "a file can be read without it: --file audit.jsonl"


def files_option(command: Command) -> Command:
    """The options that say what a command reads."""
    file = click.option(
        "--file",
        "files",
        multiple=True,
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="Read exactly this file, instead of the configured one and those rotated away from "
        "it. May be given several times; .gz is read too.",
    )
    return config_option(file(command))


def paths_of(config: Path, files: tuple[Path, ...]) -> list[Path]:
    """The files to read, those with the oldest lines first."""
    if files:
        return list(files)
    settings = settings_of(config)
    path = configured(settings)
    found = reader.file_and_rotated(path)
    if settings.audit.spool is not None:
        # What still waits there is younger than what was written.
        found += sorted(settings.resolve(settings.audit.spool).glob("*.spool"))
    if not found:
        refuse(f"there is no file {path}")
    return found


def settings_of(config: Path) -> Settings:
    """The settings of a configuration file, or every error and exit code 78."""
    try:
        return load(config)
    except ConfigError as error:
        # Who reads the audit need not know the passwords of the server.
        if error.salvaged is None or error.salvaged.audit.path is None:
            fail(error, INSTEAD)
        return error.salvaged


def configured(settings: Settings) -> Path:
    """The file that the audit is written to."""
    if settings.audit.path is None:
        refuse("the audit goes to standard output: name the --file that keeps it")
    return settings.resolve(settings.audit.path)


def personal_of(settings: Settings) -> Callable[[str], str | None] | None:
    """What stands in the place of an alias, where aliases are hashed."""
    key = settings.privacy_key
    return None if key is None else keyed_hash(key.get_secret_value().encode())


def refuse(text: str) -> NoReturn:
    """Say what is not understood, and exit with 2."""
    click.secho(text, fg="red", err=True)
    sys.exit(NOT_UNDERSTOOD)
