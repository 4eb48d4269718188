"""The stages of a long build, as they are told to the caller."""

from __future__ import annotations

from collections.abc import Callable

Stage = Callable[[str], None]
"""Takes the name of what begins now, such as ``building rooms``."""


def silent(_: str) -> None:
    """Tells nobody."""
