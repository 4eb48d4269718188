"""The command line; each command is imported when it is used."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import click

from pexpolicy import __version__
from pexpolicy.server import gc_tuning
from pexpolicy.text import is_without_colour

if TYPE_CHECKING:
    from pexpolicy.cli.plugin_commands import PluginCommand

COMMANDS = {
    "audit": ("audit.command:audit", "Read the audit file: follow, find, count and verify lines."),
    "check": ("check:check", "Check a configuration and its plugins; list every error."),
    "completion": ("completion:completion", "Print the shell completion for bash, zsh or fish."),
    "config": ("config:config", "Print JSON Schema of the configuration file."),
    "conformance": ("conformance:conformance", "Check the replies of any policy server."),
    "doctor": ("doctor.command:doctor", "Check files, certificate, machine, server and nodes."),
    "explain": ("explain:explain", "Show each step of the decision on a request."),
    "hash-password": ("hash_password:hash_password", "Print the hash of a password."),
    "healthcheck": ("healthcheck:healthcheck", "Tell by the exit code if a server is ready."),
    "init": ("init.command:init", "Write a first configuration; asks for what it needs."),
    "new-plugin": ("new_plugin:new_plugin", "Write a package with a working, tested plugin."),
    "plugins": ("plugins:plugins", "List the plugins in the order in which they are asked."),
    "reload": ("reload:reload", "Reload the configuration of a running server."),
    "replay": ("replay:replay", "Show what a configuration would change for recorded calls."),
    "schema": ("schema:schema", "Print JSON Schema of requests and replies."),
    "serve": ("serve:serve", "Answer calls until SIGTERM or Ctrl-C."),
    "status": ("status:status", "Show a running server, and the nodes that called it."),
    "test": ("test:test", "Run files of requests and expected decisions."),
}
"""Module, name and summary of each command. The list of commands imports none of them."""

GROUPS = {
    "Set up": ("init", "check", "doctor", "hash-password", "config", "completion"),
    "Run": ("serve", "status", "reload", "healthcheck"),
    "Try": ("explain", "test", "replay", "conformance"),
    "Read the audit": ("audit",),
    "Plugins": ("plugins", "new-plugin", "schema"),
}
"""The commands in the order of the help."""

SYNONYMS = {
    "help": "--help",
    "version": "--version",
    "run": "serve",
    "start": "serve",
    "validate": "check",
    "verify": "audit verify",
    "lint": "check",
    "probe": "conformance",
}
"""Names of other programs for the same commands, for the hint in the error message."""

PACKAGES = {
    "console": "pexpolicy-console",
    "export": "pexpolicy-importers",
    "import": "pexpolicy-importers",
    "local-policy": "pexpolicy-local-policy",
    "sql": "pexpolicy-sql",
}
"""Our own packages with commands, for the hint where they are not installed."""


_WIDTH = max(map(len, COMMANDS))
"""Of all names, so that the summaries of all groups are aligned."""
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
        _open_standard_error()
        try:
            try:
                return super().main(args, *more, **options)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                click.echo(f"the output cannot be written: {error.strerror}", err=True)
                raise SystemExit(1) from None
        except SystemExit as error:
            if args is None:  # otherwise the process is not ours
                # The interpreter itself ends the idle threads of an executor, and waits for others.
                timer = threading.Timer(EXIT_TIMEOUT_S, _force_exit, (error.code,))
                timer.daemon = True
                timer.start()
            raise

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Return the context of a command line, without colours where NO_COLOR is set."""
        if is_without_colour():
            extra.setdefault("color", False)
        return super().make_context(info_name, args, parent, **extra)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in alphabetical order."""
        return sorted({*COMMANDS, *self._of_plugins})

    @cached_property
    def _of_plugins(self) -> dict[str, PluginCommand]:
        from pexpolicy.cli.plugin_commands import plugin_commands  # noqa: PLC0415 - for few commands

        return plugin_commands(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write names and summaries without importing the commands."""
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<{_WIDTH}}", COMMANDS[name][1]) for name in names])
        if self._of_plugins:
            rows = sorted(self._of_plugins.items())
            with formatter.section("Commands of installed packages"):
                formatter.write_dl([(f"{name:<{_WIDTH}}", row.summary) for name, row in rows])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, or ``None``."""
        if cmd_name not in COMMANDS:
            added = self._of_plugins.get(cmd_name)
            return None if added is None else added.load()
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        with gc_tuning.importing():
            import_module("pexpolicy.log.structlog_import")
            found = getattr(import_module(f"pexpolicy.cli.{module}"), attribute)
        return cast("click.Command", found)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; say what to write instead of an argument that it does not take."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            from pexpolicy.cli.usage_hints import hint_for  # noqa: PLC0415 - for errors only

            raise hint_for(error) from None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; raise ``UsageError`` for an option of a command before it."""
        if not ctx.resilient_parsing and args and args[0] in ("-c", "--config"):
            msg = f"{args[0]} follows the command, as in: pexpolicy check {args[0]} FILE"
            raise click.UsageError(msg, ctx)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            from pexpolicy.cli.usage_hints import hint_for  # noqa: PLC0415 - for errors only

            raise hint_for(error) from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command; raise ``UsageError`` with a suggestion for an unknown one."""
        name = args[0]
        if ctx.resilient_parsing:
            # The shell completes a line that is not finished.
            return super().resolve_command(ctx, args)
        if name in COMMANDS or name.startswith("-") or name in self._of_plugins:
            return super().resolve_command(ctx, args)
        names = self.list_commands(ctx)
        suggestion = SYNONYMS.get(name) or next(iter(get_close_matches(name, names, n=1)), "")
        hint = f" Did you mean {suggestion!r}?" if suggestion else f" Commands: {', '.join(names)}."
        if name in PACKAGES:
            hint = f" Install the package {PACKAGES[name]}."
        raise click.UsageError(f"No such command {name!r}.{hint}", ctx)


def _open_standard_error() -> None:
    """Open the null device where standard error is closed, as by ``2>&-``: a socket would get its
    number, and all that libraries print.
    """
    if sys.stderr is None:
        null = os.open(os.devnull, os.O_WRONLY)
        if null != _STANDARD_ERROR:
            os.dup2(null, _STANDARD_ERROR)
            os.close(null)
        sys.stderr = open(_STANDARD_ERROR, "w", encoding="utf-8")  # noqa: SIM115 - until the end


_STANDARD_ERROR = 2
EXIT_TIMEOUT_S = 2.0
"""Seconds for threads that run on after a command."""


def _force_exit(code: object) -> None:
    """Exit if threads run on, and name them; the interpreter would wait for them without end."""
    others = [t for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
    if names := ", ".join(thread.name for thread in others):
        click.echo(f"threads of plugins did not stop in time: {names}", err=True)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1 if code else 0)


@click.group(
    cls=Commands,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")
def main() -> None:
    """Answer the external policy calls of Pexip Infinity."""
