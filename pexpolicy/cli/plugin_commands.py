"""Commands of installed packages: entry points of the group ``pexpolicy.commands``."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from importlib import metadata
from typing import NoReturn

import click

from pexpolicy.errors import describe_error

GROUP = "pexpolicy.commands"


@dataclass(frozen=True, slots=True)
class PluginCommand:
    """A command of an installed package; ``problem`` is why it cannot be used, if that is known."""

    entry: metadata.EntryPoint
    problem: str = ""

    @property
    def distribution(self) -> str:
        """The name of the package."""
        return self.entry.dist.name if self.entry.dist is not None else "an unknown package"

    @property
    def summary(self) -> str:
        """What the list of commands shows: the summary and name of the package."""
        if self.problem:
            return f"Cannot be used: {self.problem}."
        found = self.entry.dist.metadata["Summary"] if self.entry.dist is not None else ""
        return f"{found} ({self.distribution})" if found else f"A command of {self.distribution}."

    def load(self) -> click.Command:
        """Import the command; a broken one becomes a command that fails with the reason."""
        if self.problem:
            return self._broken(self.problem)
        try:
            command = self.entry.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a package raises what it likes
            return self._broken(describe_error(error).summary)
        if not isinstance(command, click.Command):
            return self._broken(f"{self.entry.value} is not a click command")
        return command

    def _broken(self, problem: str) -> click.Command:
        def fail(**_: object) -> NoReturn:
            text = f"the command {self.entry.name!r} of {self.distribution} cannot be used"
            raise click.ClickException(f"{text}: {problem}")

        arguments = click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)
        # Without help of its own, --help fails with the reason too.
        context = {"ignore_unknown_options": True, "help_option_names": []}
        return click.Command(
            self.entry.name, callback=fail, params=[arguments], context_settings=context
        )


def plugin_commands(own: Container[str]) -> dict[str, PluginCommand]:
    """Return the commands of installed packages by name; ``own`` names cannot be replaced."""
    found: dict[str, PluginCommand] = {}
    for entry in metadata.entry_points(group=GROUP):
        command = PluginCommand(entry)
        other = found.get(entry.name)
        if entry.name in own:
            text = f"pexpolicy has a command of this name, and so has {command.distribution}"
            command = PluginCommand(entry, text)
        elif other is not None and other.distribution != command.distribution:
            text = (
                f"{other.distribution} and {command.distribution} both have a command of this "
                "name; uninstall one of them"
            )
            command = PluginCommand(entry, other.problem or text)
        found[entry.name] = command
    return found
