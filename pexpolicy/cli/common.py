"""The configuration and the policy made of it, for all commands."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from pexpolicy.builder import policy_from
from pexpolicy.cli.progress import progress_lines
from pexpolicy.config.loader import load
from pexpolicy.config.problems import Problem
from pexpolicy.config.settings import ConfigError, PluginStartupError, Settings
from pexpolicy.log import console_log
from pexpolicy.policy import Policy

EX_CONFIG = 78
"""Exit code of a configuration that cannot be used (sysexits.h)."""
EX_TEMPFAIL = 75
"""Exit code where a plugin does not open what it needs: try again (sysexits.h)."""

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


class Port(click.IntRange):
    """A number of a port."""

    name = "port"

    def __init__(self) -> None:
        super().__init__(0, 65535)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; what is none is told."""
        try:
            return int(super().convert(value, param, ctx))
        except click.BadParameter:
            self.fail(f"{value!r} is no port: write a number from 0 to 65535", param, ctx)


def built(path: Path, also: Callable[[Settings], list[Problem]] = lambda _: []) -> Policy:
    """The policy of a configuration, or every error on standard error and exit code 78."""
    try:
        with progress_lines(lambda line: click.echo(line, err=True)) as stage:
            return policy_from(path, also, log=console_log(), stage=stage)
    except ConfigError as error:
        fail(error)


def settings_of(path: Path, instead: str) -> Settings:
    """The configuration, for whoever asks a server that runs: as far as it can be read here, where
    passwords may be the server's alone; or every error, what can be done ``instead``, and exit
    code 78.
    """
    try:
        return load(path)
    except ConfigError as error:
        if error.salvaged is None:
            fail(error, instead)
        return error.salvaged


def fail(error: ConfigError, instead: str = "") -> NoReturn:
    """Print every error, and exit with 78; with 75 where that is worth another attempt."""
    count = len(error.problems)
    click.secho(f"{error.path}: {count} error{'s' if count > 1 else ''}", fg="red", err=True)
    for problem in error.problems:
        click.echo(f"  {problem}", err=True)
    if instead:
        click.echo(instead, err=True)
    sys.exit(EX_TEMPFAIL if isinstance(error, PluginStartupError) else EX_CONFIG)


def advise(policy: Policy) -> None:
    """Print what an administrator should know."""
    for advice in policy.advice:
        click.secho(f"warning: {advice}", fg="yellow", err=True)
