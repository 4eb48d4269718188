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
    wall_clock: WallClock = time.time
    """The clock of conditions on the time."""


def without_limits(settings: Settings) -> Settings:
    """Return the settings without time limits of calls."""
    plugins = {
        name: table.model_copy(update={"timeout": NO_LIMIT_S})
        for name, table in settings.plugins.items()
    }
    server = settings.server.model_copy(update={"budget": NO_LIMIT_S})
    return replace(settings, plugins=plugins, server=server)
