"""A part of all calls, as an option."""

from __future__ import annotations

from typing import Any

import click


class Share(click.ParamType[float]):
    """A part of all calls: ``0.5%``, or a fraction such as ``0.005``."""

    name = "share"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the part, 0 to 1; fail for anything else."""
        text = str(value).strip()
        try:
            part = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            part = -1.0
        if not 0 <= part <= 1:
            self.fail(f"{text!r} is not a part of the calls: write 0.5%", param, ctx)
        return part
