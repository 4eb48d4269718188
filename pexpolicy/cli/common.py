"""Common parts of the commands: options, exit codes, loading and building."""

from __future__ import annotations

import faulthandler
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import click

from pexpolicy.builder import policy_from
from pexpolicy.config.loader import Stage, load
from pexpolicy.config.places import Excerpt, Places
from pexpolicy.config.problems import Problem, dotted_key
from pexpolicy.config.settings import ConfigError, PluginStartupError, Settings
from pexpolicy.log import LogHandler, LogLevels, ServerLog, capturing
from pexpolicy.policy import BuildContext, Policy

EX_CONFIG = 78
"""Exit code for an invalid configuration (sysexits.h)."""
EX_TEMPFAIL = 75
"""Exit code for a failed lifespan, which may succeed later (sysexits.h)."""

_STANDARD_ERROR = 2

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


PORT = click.IntRange(0, 65535)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def examples(*lines: str) -> str:
    """Return the epilog of a command: its examples, which no terminal wraps."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def capture_log(*, debug: bool = False) -> tuple[ServerLog, LogHandler]:
    """Write the log lines of plugins to standard error until the command ends."""
    log = ServerLog(is_debugging=debug)
    handler = click.get_current_context().with_resource(capturing(log))
    if debug:
        # The levels of the configuration are not known yet.
        handler.use(LogLevels(logging.DEBUG))
    return log, handler


@contextmanager
def reporting_crashes() -> Iterator[None]:
    """Have Python print where it was if compiled code of a plugin crashes the process.

    Not for a server that answers calls: it would not end while the reader of standard error stalls.
    """
    if faulthandler.is_enabled():
        yield
        return
    faulthandler.enable(_STANDARD_ERROR)
    try:
        yield
    finally:
        faulthandler.disable()


@contextmanager
def progress_lines(delay: float = 2.0) -> Iterator[Stage]:
    """Print the current stage after ``delay`` seconds, and each later one when it begins."""
    started, stage = time.monotonic(), "starting"

    def report() -> None:
        click.echo(f"{time.monotonic() - started:.0f} s: {stage}", err=True)

    def enter(name: str) -> None:
        nonlocal stage
        stage = name
        if not timer.is_alive():
            report()

    timer = threading.Timer(delay, report)
    timer.daemon = True
    timer.start()
    try:
        yield enter
    finally:
        timer.cancel()


Check = Callable[[Settings], list[Problem]]
"""A check of settings before the policy is built."""


def build(path: Path, check: Check = lambda _: [], context: BuildContext | None = None) -> Policy:
    """Build the policy of a configuration; raises ``ConfigError``.

    Without a log in the context, that of the plugins is captured here.
    """
    context, handler = context or BuildContext(), None
    if context.log is None:
        log, handler = capture_log()
        context = replace(context, log=log)
    with reporting_crashes(), progress_lines() as stage:
        policy = policy_from(path, check, replace(context, stage=stage))
    if handler is not None:
        handler.use(policy.log_levels)
    return policy


def build_or_exit(
    path: Path, check: Check = lambda _: [], context: BuildContext | None = None
) -> Policy:
    """Build the policy of a configuration; on errors print all of them and exit with 78 or 75."""
    try:
        return build(path, check, context)
    except ConfigError as error:
        fail(error)


def load_or_exit(path: Path, hint: str) -> Settings:
    """Load the configuration of a running server, without secrets that this user cannot read.

    On errors print all of them and ``hint``, and exit with 78.
    """
    try:
        return load(path)
    except ConfigError as error:
        if error.salvaged is None:
            fail(error, hint)
        return error.salvaged


def fail(error: ConfigError, hint: str = "") -> NoReturn:
    """Print all errors and exit with 78, or with 75 if another attempt may succeed."""
    click.secho(f"{error.path}: {count(len(error.problems), 'error')}", fg="red", err=True)
    places = Places.of_file(error.path)
    for problem in error.problems:
        click.echo(err=True)
        _print_problem(problem, error.path, places.excerpt(problem))
    if hint:
        click.echo(hint, err=True)
    sys.exit(exit_code(error))


def exit_code(error: ConfigError) -> int:
    """Return 78, or 75 if another attempt may succeed."""
    return EX_TEMPFAIL if isinstance(error, PluginStartupError) else EX_CONFIG


def _print_problem(problem: Problem, path: Path, excerpt: Excerpt | None) -> None:
    text, key = str(problem), dotted_key(problem.key)
    if key and text.startswith(key):
        text = f"{click.style(key, bold=True)}{text.removeprefix(key)}"
    click.echo(f"  {text}", err=True)
    if excerpt is not None:
        number = str(excerpt.line)
        margin = " " * len(number)
        for beginning, rest in (
            (f"{margin}--> {path}:{number}:{excerpt.column}", ""),
            (f"{number} |", f" {excerpt.text}"),
            (f"{margin} |", click.style(f" {excerpt.mark}", fg="red")),
        ):
            click.echo(f"  {click.style(beginning, dim=True)}{rest}", err=True)


def print_warnings(policy: Policy) -> None:
    """Print the warnings about a configuration."""
    for warning in policy.warnings:
        warn(warning)


def warn(text: object, kind: str = "warning") -> None:
    """Print a warning, or a note, on standard error."""
    click.secho(f"{kind}: {text}", fg="yellow", err=True)


def key_value_pairs(texts: Iterable[str], option: str, example: str) -> list[tuple[str, str]]:
    """Return ``KEY=VALUE`` arguments as pairs; raise ``BadParameter``."""
    pairs = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            msg = f"{text!r} has no value: write {option} {example}"
            raise click.BadParameter(msg, param_hint=option)
        pairs.append((key, value))
    return pairs


def refuse(text: str, code: int = 2) -> NoReturn:
    """Print an error, and exit with 2 or another code."""
    click.secho(text, fg="red", err=True)
    sys.exit(code)


def count(number: int, noun: str) -> str:
    """Return a number with its noun, which is in the plural unless there is one."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
