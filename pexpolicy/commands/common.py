"""What the commands share: the configuration, the policy made of it, and an event loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from pexpolicy.building import policy_from
from pexpolicy.config import ConfigError, OpeningError, Settings, load
from pexpolicy.faults import blame
from pexpolicy.hidden import hide
from pexpolicy.logs import console_log
from pexpolicy.policy import Policy
from pexpolicy.problems import Problem
from pexpolicy.progress import told

T = TypeVar("T")

EX_CONFIG = 78
"""Exit code of a configuration that cannot be used (sysexits.h)."""
EX_TEMPFAIL = 75
"""Exit code where a plugin does not open what it needs: try again (sysexits.h)."""

config_option = click.option(
    "--config",
    "-c",
    "config",
    type=click.Path(path_type=Path, dir_okay=False),
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
        with told(lambda line: click.echo(line, err=True)) as stage:
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
    sys.exit(EX_TEMPFAIL if isinstance(error, OpeningError) else EX_CONFIG)


def advise(policy: Policy) -> None:
    """Print what an administrator should know."""
    for advice in policy.advice:
        click.secho(f"warning: {advice}", fg="yellow", err=True)


def run(main_coroutine: Coroutine[Any, Any, T], *, serving: bool = False) -> T:
    """Run on an event loop. A server runs on uvloop where that is installed, and goes on whatever
    the tasks raise that plugins left behind.
    """
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if serving:
        try:
            from uvloop import new_event_loop as factory  # noqa: PLC0415 - an extra
        except ImportError:
            factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        task = loop.create_task(main_coroutine)
        if serving:
            hide(task)
            _run_server(loop, task)
        while not task.done():
            with suppress(RuntimeError):  # a plugin that stops the loop does not stop a command
                loop.run_until_complete(task)
        return task.result()


def _run_server(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    """Run the event loop until a hidden task has ended, whatever plugins do to the loop."""
    root: asyncio.Task[None] | None = None
    while not task.done():
        if root is None or root.done():
            root = loop.create_task(_ended(task))
        try:
            loop.run_until_complete(root)
        except asyncio.CancelledError:
            continue  # a plugin cancelled every task that it found
        except RuntimeError:
            if root.done():  # else a plugin stopped the loop
                raise
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done():
                return
            console_log().warning(
                "a task or callback that a plugin left behind failed",
                error=blame(error).summary,
            )


async def _ended(task: asyncio.Task[Any]) -> None:
    """Wait for a task that is hidden, in its place among all tasks.

    Libraries look there for the task that lasts as long as the event loop: anyio keeps its threads
    for as long.
    """
    await asyncio.wait((task,))
