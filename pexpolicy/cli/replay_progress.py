"""The progress line of a replay."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import click

INTERVAL_S = 0.5
"""Between two updates of the line."""


class ReplayProgress:
    """A line on standard error that tells how far a replay is, and is removed at its end."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._began = self._shown = time.monotonic()
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._width:
            click.echo(f"\r{'':<{self._width}}\r", nl=False, err=True)

    def __call__(self, records: int, position: int, size: int) -> None:
        """Show the records replayed so far, and the bytes read of all bytes."""
        now = time.monotonic()
        if not self._enabled or now - self._shown < INTERVAL_S:
            return
        self._shown = now
        part = min(position / size, 1.0) if size else 1.0
        left = (now - self._began) * (1 - part) / part if part else 0.0
        text = f"{records:,} records, {part:.0%}, {left:.0f} s left"
        self._width = max(self._width, len(text))
        click.echo(f"\r{text:<{self._width}}", nl=False, err=True)
