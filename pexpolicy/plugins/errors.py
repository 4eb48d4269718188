"""Exception for a plugin that cannot be built."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from pexpolicy.config.problems import Problem


class PluginBuildError(Exception):
    """A plugin cannot be built; ``problems`` have keys relative to the plugin's table."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))

    @classmethod
    def because(cls, text: str) -> Self:
        """Return an error with one reason that concerns no particular key."""
        return cls([Problem((), text)])
