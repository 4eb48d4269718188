"""The command line; every command works on the same policy that serves."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType
from typing import cast

import click

from pexpolicy import __version__
from pexpolicy.server import gc_tuning

COMMANDS = {
    "audit": "pexpolicy.cli.audit.command:audit",
    "check": "pexpolicy.cli.check:check",
    "conformance": "pexpolicy.cli.conformance:conformance",
    "explain": "pexpolicy.cli.explain:explain",
    "export": "pexpolicy.cli.import_export:export",
    "hash-password": "pexpolicy.cli.hash_password:hash_password",
    "healthcheck": "pexpolicy.cli.healthcheck:healthcheck",
    "import": "pexpolicy.cli.import_export:import_",
    "new-plugin": "pexpolicy.cli.new_plugin:new_plugin",
    "plugins": "pexpolicy.cli.plugins:plugins",
    "reload": "pexpolicy.cli.reload:reload",
    "schema": "pexpolicy.cli.schema:schema",
    "serve": "pexpolicy.cli.serve:serve",
    "status": "pexpolicy.cli.status:status",
    "test": "pexpolicy.cli.test:test",
}
"""Where each command is. It is imported when it is asked for: a start pays for no other."""


MEANT = {
    "help": "--help",
    "version": "--version",
    "run": "serve",
    "start": "serve",
    "validate": "check",
    "verify": "audit verify",
    "lint": "check",
    "probe": "conformance",
}
"""Names that people try, and what they look for."""


class Commands(click.Group):
    """The commands of ``COMMANDS``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the alphabet."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, or ``None``."""
        module, _, attribute = COMMANDS.get(cmd_name, "").partition(":")
        if not module:
            return None
        with gc_tuning.importing():
            _import_structlog()
            return cast("click.Command", getattr(import_module(module), attribute))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is asked for; an unknown one is told with what was meant."""
        name = args[0]
        if name in COMMANDS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        meant = MEANT.get(name) or next(iter(get_close_matches(name, COMMANDS, n=1)), "")
        hint = f" Did you mean {meant!r}?" if meant else f" There are {', '.join(COMMANDS)}."
        raise click.UsageError(f"No such command {name!r}.{hint}", ctx)


def _import_structlog() -> None:
    """Import structlog without rich.

    structlog imports rich, where it is installed, for coloured tracebacks that are never shown, and
    that is a third of the start-up time. ``None`` in ``sys.modules`` is the documented way to mark
    a module as missing.
    """
    if "rich" in sys.modules:
        return
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    modules["rich"] = None
    try:
        import_module("structlog")
    finally:
        del modules["rich"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Answer the external policy calls of Pexip Infinity."""
