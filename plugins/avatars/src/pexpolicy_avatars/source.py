"""Where pictures come from: what all sources have in common."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from pexpolicy import Alias

MAX_BYTES = 10 * 1024 * 1024
"""Bytes of a picture; larger ones are refused before they are in memory."""


class PictureError(Exception):
    """A source has no answer: it failed, or what it has cannot be used."""


class PictureSource(Protocol):
    """Finds the pictures of people."""

    @property
    def name(self) -> str:
        """The name of the source in the reason of a decision and in metrics."""

    def opened(self) -> AbstractAsyncContextManager[None]:
        """Open what the source needs."""

    async def fetch(self, alias: Alias) -> bytes | None:
        """Return the picture of an alias, ``None`` without one; raises ``PictureError``."""
