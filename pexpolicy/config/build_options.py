"""Options for building a policy for its author: development and dry runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from pexpolicy.config.settings import Settings
from pexpolicy.models.wall_clock import WallClock

NO_LIMIT_S = 86_400.0
"""A day, for time limits while a plugin is debugged."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How a policy is built for its author."""

    time_limits: bool = True
    """False: no plugin is late, and the budget lasts a day."""
    reloads_sources: bool = False
    """True: the source files of editable plugins are tracked, and imported again after a change."""
    is_repeatable: bool = False
    """True: no circuit breakers, and no plugin in processes of its own, whose clock is not set."""
    wall_clock: WallClock = time.time
    """The clock of conditions on the time."""
    keeps_static_decisions: bool = False
    """True: the policy keeps the decisions that never change, with the keys that they come from."""

    def applied_to(self, settings: Settings) -> Settings:
        """Return the settings to build: without time limits, or without other dependencies."""
        if not self.time_limits:
            server = settings.server.model_copy(update={"budget": NO_LIMIT_S})
            settings = replace(_with(settings, timeout=NO_LIMIT_S), server=server)
        if self.is_repeatable:
            settings = _with(settings, breaker=None, isolation="none")
        return settings


def _with(settings: Settings, **changes: object) -> Settings:
    """Return the settings with these values in the table of each plugin."""
    plugins = {name: table.model_copy(update=changes) for name, table in settings.plugins.items()}
    return replace(settings, plugins=plugins)
