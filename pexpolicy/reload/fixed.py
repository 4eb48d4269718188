"""What a running server keeps from its start, whatever a later configuration says."""

from __future__ import annotations

from functools import reduce

from pexpolicy.config import Settings
from pexpolicy.problems import dotted

FIXED: tuple[tuple[str, ...], ...] = (
    ("server", "host"),
    ("server", "port"),
    ("server", "base_path"),
    ("server", "workers"),
    ("tls",),
    ("limits",),
    ("admin", "enabled"),
    ("admin", "host"),
    ("admin", "port"),
    ("tracing",),
    ("audit",),
)
"""Keys and tables of the configuration that are read at the start only."""


def needing_restart(serving: Settings, wanted: Settings) -> tuple[str, ...]:
    """A sentence for each key that has changed and will not count before the next start."""
    return tuple(
        f"{dotted(key)}: the change needs a restart"
        for key in FIXED
        if reduce(getattr, key, serving) != reduce(getattr, key, wanted)
    )
