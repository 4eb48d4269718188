"""The input of the audit commands: files, times, and errors about them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from pexpolicy.audit import reader
from pexpolicy.audit.reader import RawLine
from pexpolicy.audit.redaction import keyed_hash
from pexpolicy.cli.audit.filters import parse_time
from pexpolicy.cli.common import config_option, fail
from pexpolicy.config.loader import load
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.text import printable

Command = TypeVar("Command", bound=Callable[..., Any])
USAGE_ERROR = 2
HINT = "a file can be read without it: --file audit.jsonl"
PROGRESS_LINES = 4096
"""Lines between two looks at the clock."""
PROGRESS_INTERVAL_S = 0.5
"""Between two updates of the progress line."""


class AuditGroup(click.Group):
    """A group of commands that exit with 2 if a file cannot be read."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and print an error of a file without a traceback."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.filename is None or isinstance(error, BrokenPipeError):
                raise
            refuse(f"{printable(error.filename)} cannot be read: {error.strerror}")


def files_option(command: Command) -> Command:
    """Add the options that select the files to read."""
    file = click.option(
        "--file",
        "files",
        multiple=True,
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="Read this file instead of the configured one and those rotated away from it. May be "
        "given several times; .gz is read too.",
    )
    return config_option(file(command))


utc_option = click.option("--utc", is_flag=True, help="Read and print times in UTC, not local.")


def time_options(command: Command) -> Command:
    """Add the options that select a period."""
    since = click.option(
        "--since",
        help="From this time: 2026-11-26T09:00, 09:00, today, yesterday, or 15m, 2h, 3d ago.",
    )
    until = click.option("--until", help="Before this time.")
    return since(until(utc_option(command)))


def period(since: str | None, until: str | None, *, utc: bool) -> dict[str, datetime | None]:
    """Return ``since`` and ``until`` as times, or exit with 2."""
    now = datetime.now(UTC)
    try:
        times = {
            name: None if text is None else parse_time(text, now, utc=utc)
            for name, text in (("since", since), ("until", until))
        }
    except ValueError as error:
        refuse(str(error))
    begin, end = times["since"], times["until"]
    if begin is not None and end is not None and begin >= end:
        refuse(
            f"--since {since} is not before --until {until}, so no line is in between: "
            "write the earlier time after --since"
        )
    return times


def paths_of(config: Path, files: tuple[Path, ...]) -> list[Path]:
    """Return the files to read, those with the oldest lines first."""
    if files:
        return list(files)
    settings = settings_of(config)
    path = configured(settings)
    paths = reader.file_and_rotated(path)
    if settings.audit.spool is not None:
        # Lines in the spool are newer than those in the file.
        paths += sorted(settings.resolve(settings.audit.spool).glob("*.spool"))
    if not paths:
        refuse(f"there is no file {path}")
    return paths


def settings_of(config: Path) -> Settings:
    """Return the settings of a configuration file, or print every error and exit with 78."""
    try:
        return load(config)
    except ConfigError as error:
        # Reading the audit file does not need the passwords of the server.
        if error.salvaged is None or error.salvaged.audit.path is None:
            fail(error, HINT)
        return error.salvaged


def configured(settings: Settings) -> Path:
    """Return the configured audit file, or exit with 2."""
    if settings.audit.path is None:
        refuse(f"the audit goes to standard output: {_other_input()}")
    return settings.resolve(settings.audit.path)


def _other_input() -> str:
    """Return how to name the file that has the lines, for the command that runs."""
    context = click.get_current_context(silent=True)
    if context is None:
        return "write the line of the call in place of its ID"  # the console, which has no options
    names = {name for one in context.command.params for name in (*one.opts, one.name)}
    if "--file" in names:
        return "write --file FILE with the file that has it"
    if "records" in names:
        return f"name the file that has it, as in: {context.command_path} FILE"
    return "write the line of the call in place of its ID"


def hash_of(settings: Settings) -> Callable[[str], str | None] | None:
    """Return the function that hashes personal values, if they are hashed."""
    key = settings.privacy_key
    return None if key is None else keyed_hash(key.get_secret_value().encode())


def with_progress(
    lines: Iterable[RawLine], *, enabled: bool, interval: float = PROGRESS_INTERVAL_S
) -> Iterator[RawLine]:
    """Yield lines, and print their number on standard error meanwhile."""
    if not enabled:
        yield from lines
        return
    shown_at = time.monotonic()
    width = 0
    for number, line in enumerate(lines):
        if number % PROGRESS_LINES == 0 and time.monotonic() - shown_at > interval:
            text = f"{number:,} lines read, now in {line.path.name}"
            click.echo(f"\r{text:<{width}}", nl=False, err=True)
            shown_at, width = time.monotonic(), len(text)
        yield line
    if width:
        click.echo(f"\r{'':<{width}}\r", nl=False, err=True)


def refuse(text: str) -> NoReturn:
    """Print an error, and exit with 2."""
    click.secho(text, fg="red", err=True)
    sys.exit(USAGE_ERROR)
