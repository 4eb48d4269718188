"""The command line; each command is imported when it is used."""

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
"""The module and name of each command."""


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


class Commands(click.Group):
    """The commands of ``COMMANDS``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in alphabetical order."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, or ``None``."""
        module, _, attribute = COMMANDS.get(cmd_name, "").partition(":")
        if not module:
            return None
        with gc_tuning.importing():
            _import_structlog()
            return cast("click.Command", getattr(import_module(module), attribute))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command; raise ``UsageError`` with a suggestion for an unknown one."""
        name = args[0]
        if name in COMMANDS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        suggestion = SYNONYMS.get(name) or next(iter(get_close_matches(name, COMMANDS, n=1)), "")
        hint = (
            f" Did you mean {suggestion!r}?" if suggestion else f" Commands: {', '.join(COMMANDS)}."
        )
        raise click.UsageError(f"No such command {name!r}.{hint}", ctx)


def _import_structlog() -> None:
    """Import structlog without rich.

    structlog imports rich, if it is installed, for tracebacks that are never printed. That is a
    third of the start-up time. ``None`` in ``sys.modules`` is the documented way to mark a module
    as missing.
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
