"""Stages of a build that takes long."""

from __future__ import annotations

from collections.abc import Callable

Stage = Callable[[str], None]
"""Takes the name of the stage that begins, such as ``building rooms``."""


def silent(_: str) -> None:
    """Report nothing."""
