"""Common parts of the commands: options, exit codes, building, and text on a terminal."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NoReturn

import click

from pexpolicy.builder import policy_from
from pexpolicy.config.files import FileUser, reading
from pexpolicy.config.loader import load
from pexpolicy.config.places import Places, grouped
from pexpolicy.config.problems import ConfigWarning, Problem
from pexpolicy.config.settings import ConfigError, PluginStartupError, Settings
from pexpolicy.fleet.last_good import last_good, state_folder
from pexpolicy.log import LogHandler, LogLevels, ServerLog, capturing
from pexpolicy.policy import BuildContext, Policy
from pexpolicy.text import printable_lines

EX_CONFIG = 78
"""Exit code for an invalid configuration (sysexits.h)."""
EX_TEMPFAIL = 75
"""Exit code for a failed lifespan, which may succeed later (sysexits.h)."""
PORT = click.IntRange(0, 65535)
Check = Callable[[Settings], Iterable[Problem]]
"""A check of settings before the policy is built."""

config_option = click.option(
    "--config",
    "-c",
    "config",
    type=click.Path(path_type=Path, readable=False),
    default=Path("config.toml"),
    show_default=True,
    envvar="PEXPOLICY_CONFIG",
    help="The configuration file.",
)
as_option = click.option(
    "--as", "user", metavar="USER", help="Judge files as USER; default: that of the systemd unit."
)
flag = partial(click.option, is_flag=True)
repeatable = partial(click.option, multiple=True)
json_option = flag("--json", "as_json", help="Print JSON.")


def examples(*lines: str) -> str:
    """Return the epilog of a command: its examples, which no terminal wraps."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def key_value(text: str) -> tuple[str, str]:
    """Return the parts of ``KEY=VALUE``; raise ``BadParameter``."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise click.BadParameter(f"{text!r} has no value: write remote_address=10.44.0.7")
    return key, value


# ---- the policy of a configuration


def capture_log(*, debug: bool = False) -> tuple[ServerLog, LogHandler]:
    """Write the log lines of plugins to standard error until the command ends."""
    log = ServerLog(is_debugging=debug)
    handler = click.get_current_context().with_resource(capturing(log))
    if debug:
        # The levels of the configuration are not known yet.
        handler.use(LogLevels(logging.DEBUG))
    return log, handler


def build(
    path: Path,
    check: Check = lambda _: [],
    context: BuildContext | None = None,
    *,
    debug: bool = False,
) -> Policy:
    """Build the policy of a configuration, and capture the log of its plugins; with ``debug`` all
    of it. Raises ``ConfigError``.
    """
    log, handler = capture_log(debug=debug)
    policy = policy_from(path, check, replace(context or BuildContext(), log=log))
    handler.use(policy.log_levels)
    return policy


def file_user(config: Path, name: str | None) -> FileUser:
    """Return the user as which files are judged."""
    try:
        return FileUser.that_serves(config, name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--as") from None


def usable(path: Path) -> Settings:
    """Return what can be used of the configuration of a server: the keys without errors, or of a
    file that is no TOML what is kept of it, as the server does. Raises ``ConfigError``.
    """
    if (made := FileUser.that_serves(path).state_folder) is not None:
        os.environ.setdefault("STATE_DIRECTORY", str(made))  # as its unit does
    try:
        return load(path)
    except ConfigError as error:
        if error.salvaged is None and (found := last_good(state_folder(path, None), path)):
            with suppress(ConfigError), reading(found[1]):
                return load(path)
        if error.salvaged is None:
            raise
        return error.salvaged


def load_or_exit(path: Path, hint: str) -> Settings:
    """Return the same, or print all errors and ``hint``, and exit with 78."""
    try:
        return usable(path)
    except ConfigError as error:
        fail(error, hint)


def fail(error: ConfigError, hint: str = "") -> NoReturn:
    """Print all errors and ``hint``, and exit with 78, or with 75 if it may succeed later."""
    print_errors(error)
    if hint:
        click.echo(hint, err=True)
    sys.exit(exit_code(error))


def print_errors(error: ConfigError) -> None:
    """Print all errors, each with its place."""
    problems, places = grouped(error.problems, error.path), Places.of_file(error.path)
    click.secho(f"{error.path}: {count(len(problems), 'error')}", fg="red", err=True)
    for problem in problems:
        click.echo(f"\n  {problem}", err=True)
        if (place := places.place_of(problem)) is not None and not place[0]:
            click.secho(f"   --> {error.path}:{place[1]}:{place[2]}", err=True, dim=True)


def exit_code(error: ConfigError) -> int:
    """Return 78, or 75 if another attempt may succeed."""
    return EX_TEMPFAIL if isinstance(error, PluginStartupError) else EX_CONFIG


def print_warnings(policy: Policy) -> list[ConfigWarning]:
    """Print the warnings about a configuration, one for each finding, and return them."""
    found = grouped(policy.warnings, policy.settings.path)
    for warning in found:
        warn(warning)
    return found


def warn(text: object, kind: str = "warning") -> None:
    """Print a warning, or a note, on standard error."""
    click.secho(f"{kind}: {text}", fg="yellow", err=True)


def refuse(text: str, code: int = 2) -> NoReturn:
    """Print an error, and exit with 2 or another code."""
    click.secho(text, fg="red", err=True)
    sys.exit(code)


def print_json(document: object) -> None:
    """Print a document for programs."""
    click.echo(json.dumps(document, indent=2))


# ---- text on a terminal


def print_value(value: object) -> None:
    """Print a value as indented JSON for people."""
    click.echo(printable_lines(json.dumps(value, indent=2, ensure_ascii=False)))


def count(number: int, noun: str) -> str:
    """Return a number with its noun, which is in the plural unless there is one."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def format_duration(seconds: float) -> str:
    """Return a duration in one or two units."""
    minutes, hours, days = (int(seconds // unit) for unit in (60, 3600, 86_400))
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"


def format_time(timestamp: object) -> str:
    """Return a timestamp of a line in local time with its offset."""
    try:
        return f"{datetime.fromisoformat(str(timestamp)).astimezone():%Y-%m-%d %H:%M:%S%z}"
    except (ValueError, OverflowError):
        return "?"


def format_size(size: int) -> str:
    """Return a size on a disk, in GiB or, where that is less than one, in MiB."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"
