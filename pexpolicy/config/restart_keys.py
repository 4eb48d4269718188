"""What a running server keeps from its start, whatever a later configuration says."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Any

from pydantic import BaseModel

from pexpolicy.config.problems import dotted_key
from pexpolicy.config.settings import Settings

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


def awaiting_restart(serving: Settings, wanted: Settings) -> tuple[str, ...]:
    """The keys that have changed and will not count before the next start."""
    return tuple(
        dotted_key(changed)
        for key in FIXED
        for changed in _changed(key, reduce(getattr, key, serving), reduce(getattr, key, wanted))
    )


def _changed(key: tuple[str, ...], before: Any, after: Any) -> Iterator[tuple[str, ...]]:
    """The keys of a table that differ, or the key itself where the whole table came or went."""
    if before == after:
        return
    if not (isinstance(before, BaseModel) and isinstance(after, BaseModel)):
        yield key
        return
    for name in type(after).model_fields:
        if getattr(before, name) != getattr(after, name):
            yield (*key, name)
