"""The progress line of a replay."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import click

from pexpolicy.replay.result import Tally

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

    def __call__(self, tally: Tally, part: float) -> None:
        """Show the counts so far, and which part of the files is replayed, 0 to 1."""
        now = time.monotonic()
        if not self._enabled or now - self._shown < INTERVAL_S:
            return
        self._shown = now
        left = (now - self._began) * (1 - part) / part if part else 0.0
        records = sum(tally.records.values())
        text = f"{records:,} records, {tally.changed:,} changed, {part:.0%}, {left:.0f} s left"
        self._width = max(self._width, len(text))
        click.echo(f"\r{text:<{self._width}}", nl=False, err=True)
