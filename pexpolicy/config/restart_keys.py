"""Keys of the configuration that take effect at a restart only."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Any

from pydantic import BaseModel

from pexpolicy.config.problems import dotted_key
from pexpolicy.config.settings import Settings

RESTART_KEYS: tuple[tuple[str, ...], ...] = (
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
"""Keys and tables that are read at the start only."""


def awaiting_restart(serving: Settings, wanted: Settings) -> tuple[str, ...]:
    """Return the changed keys that need a restart."""
    return tuple(
        dotted_key(changed)
        for key in RESTART_KEYS
        for changed in _changed(key, reduce(getattr, key, serving), reduce(getattr, key, wanted))
    )


def _changed(key: tuple[str, ...], before: Any, after: Any) -> Iterator[tuple[str, ...]]:
    """Yield the keys of a table that differ, or the key of a table that was added or removed."""
    if before == after:
        return
    if not (isinstance(before, BaseModel) and isinstance(after, BaseModel)):
        yield key
        return
    for name in type(after).model_fields:
        if getattr(before, name) != getattr(after, name):
            yield (*key, name)
