"""The command line; each command is imported when it is used."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, cast

import click
from click.shell_completion import get_completion_class

from pexpolicy import __version__
from pexpolicy.text import did_you_mean, is_without_colour, printable, suggest

GROUPS = {
    "Set up": ("init", "check", "doctor", "hash-password", "config", "completion"),
    "Run": ("serve", "status", "reload", "bundle", "healthcheck"),
    "Try": ("explain", "test", "replay", "conformance"),
    "Read the audit": ("audit",),
    "Plugins": ("plugins", "new-plugin"),
}
"""The commands in the order of the help. Each is in the module of its name, unless it is below."""
MODULES = {
    "completion": "main",
    "hash-password": "config",
    "healthcheck": "http_client",
    "plugins": "check",
    "reload": "status",
    "test": "replay",
}
COMMANDS = tuple(name for names in GROUPS.values() for name in names)
_VERBS = """
start stop restart try-restart reload-or-restart try-reload-or-restart force-reload kill clean
freeze thaw enable disable reenable preset mask unmask link revert edit cat show is-active
is-enabled is-failed reset-failed list-dependencies
"""
SERVICE_VERBS = frozenset(_VERBS.split())
"""What ``systemctl`` does with a unit."""
EXIT_TIMEOUT_S = 2.0
"""Seconds for threads that run on after a command."""
EPILOG = """\b
Examples:
  pexpolicy init                     begin with a new configuration
  pexpolicy check                    list its errors and warnings
  pexpolicy explain meet@example.com
  pexpolicy COMMAND --help           options and examples of a command

The commands use ./config.toml, or the file that --config or the environment variable
PEXPOLICY_CONFIG names. NO_COLOR=1 prints without colours.

Documentation: https://github.com/pexpolicy/pexpolicy#readme"""


class Commands(click.Group):
    """The commands of ``COMMANDS`` and those of installed packages."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        """Run a command; do not wait for threads of plugins that do not end."""
        if sys.stderr is None:  # closed, as by 2>&-: a socket would get its number
            sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the end
        if is_without_colour():
            options.setdefault("color", False)
        try:
            try:
                return super().main(args, *more, **options)
            except OSError as error:
                if error.errno != errno.ENOSPC and error.filename is None:
                    raise
                name = printable(error.filename) if error.filename else "the output"
                click.echo(f"{name} cannot be read or written: {error.strerror}", err=True)
                raise SystemExit(2 if error.filename else 1) from None
        except SystemExit as error:
            if args is None:  # otherwise the process is not ours
                from pexpolicy.server.process import (  # noqa: PLC0415 - a faster start
                    force_exit_after,
                )

                code = error.code if isinstance(error.code, int) else bool(error.code)
                # The interpreter itself ends the idle threads of an executor, and waits for others.
                force_exit_after(EXIT_TIMEOUT_S, _threads, code)
            raise

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options before the command."""
        with _advising():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; print all errors of a configuration, and exit with 78 or 75."""
        try:
            with _advising():
                return super().invoke(ctx)
        except Exception as error:
            from pexpolicy.cli.common import fail  # noqa: PLC0415 - a faster start
            from pexpolicy.config.settings import ConfigError  # noqa: PLC0415 - the same

            if isinstance(error, ConfigError):
                fail(error)
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in alphabetical order."""
        return sorted({*COMMANDS, *self._of_packages})

    @cached_property
    def _of_packages(self) -> dict[str, metadata.EntryPoint]:
        """The commands of installed packages; they cannot replace ours."""
        entries = metadata.entry_points(group="pexpolicy.commands")
        return {entry.name: entry for entry in entries if entry.name not in COMMANDS}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write names and summaries without importing the commands of packages."""
        others = tuple(sorted(self._of_packages))
        for title, names in (*GROUPS.items(), ("Commands of installed packages", others)):
            if names:
                with formatter.section(title):
                    formatter.write_dl([(f"{name:<13}", self._help(ctx, name)) for name in names])

    def _help(self, ctx: click.Context, name: str) -> str:
        if (entry := self._of_packages.get(name)) is not None:
            package = _distribution(entry)
            found = package.metadata["Summary"]
            return f"{found} ({package.name})" if found else f"A command of {package.name}."
        command = self.get_command(ctx, name)
        return command.get_short_help_str(62) if command is not None else ""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, or ``None``."""
        if cmd_name in COMMANDS:
            attribute = cmd_name.replace("-", "_")
            module = import_module(f"pexpolicy.cli.{MODULES.get(cmd_name, attribute)}")
            return cast("click.Command", getattr(module, attribute))
        if (entry := self._of_packages.get(cmd_name)) is None:
            return None
        try:
            command = entry.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a package raises what it likes
            from pexpolicy.errors import describe_error  # noqa: PLC0415 - for a broken package only

            reason = describe_error(error).summary
        else:
            if isinstance(command, click.Command):
                return command
            reason = f"{entry.value} is not a click command"
        if ctx.resilient_parsing:  # the shell completes a line
            return None
        text = f"the command {cmd_name!r} of {_distribution(entry).name} cannot be used"
        raise click.ClickException(f"{text}: {reason}")


@contextmanager
def _advising() -> Iterator[None]:
    """Add to wrong usage of any command what there is instead."""
    try:
        yield
    except click.UsageError as error:
        if error.ctx is None or not (advice := _advice(error, error.ctx)):
            raise
        # Click itself suggests names that change the meaning; some errors have no message.
        text = (error.message or error.format_message()).rstrip(".")
        raise click.UsageError(text + advice, error.ctx) from error


def _advice(error: click.UsageError, ctx: click.Context) -> str:
    command, parameters = ctx.command, ctx.command.get_params(ctx)
    options = [max(one.opts, key=len) for one in parameters if isinstance(one, click.Option)]
    commands = command.list_commands(ctx) if isinstance(command, click.Group) else []
    match error:
        case click.NoSuchCommand(command_name=name) if name in SERVICE_VERBS and not ctx.parent:
            return f"; systemctl {name} pexpolicy does it"
        case click.NoSuchCommand(command_name=name):
            return did_you_mean(name, options) or suggest(name, commands)
        case click.NoSuchOption(option_name=name):
            has_own = not commands or {*options} - {"--help", "--version"}
            return suggest(name, options) + ("" if has_own else "; options follow their command")
        case click.MissingParameter():
            name = ctx.command_path.partition(" ")[2]
            examples = (command.epilog or "").splitlines()
            fitting = (line.strip() for line in examples if f"pexpolicy {name} " in line)
            return next((f": write it as in {line}" for line in fitting), "")
        # Click has no class for it, and other errors are those of our commands.
        case click.UsageError(message=text) if text.startswith("Got unexpected extra arg"):
            taken = [one.make_metavar(ctx) for one in parameters if isinstance(one, click.Argument)]
            return f"; it takes {', '.join([*taken, *options])}: put what has blanks in quotes"
        case _:
            return ""


def _distribution(entry: metadata.EntryPoint) -> metadata.Distribution:
    assert entry.dist is not None  # each that is found is of one
    return entry.dist


def _threads() -> list[str]:
    """Return the names of threads for which the interpreter would wait without end."""
    others = (one for one in threading.enumerate() if not one.daemon)
    return [one.name for one in others if one is not threading.main_thread()]


@click.group(
    cls=Commands,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")
def main() -> None:
    """Answer the external policy calls of Pexip Infinity."""


@click.command(
    epilog="\b\nExamples:\n"
    "  pexpolicy completion bash > ~/.local/share/bash-completion/completions/pexpolicy\n"
    '  pexpolicy completion zsh > "${fpath[1]}/_pexpolicy"\n'
    "  pexpolicy completion fish > ~/.config/fish/completions/pexpolicy.fish"
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print the completion of commands and options for SHELL."""
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(main, {}, "pexpolicy", "_PEXPOLICY_COMPLETE").source())
