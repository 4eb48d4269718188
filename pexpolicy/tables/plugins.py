"""``[plugins.NAME]``: which plugins are asked, and how."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, PrivateAttr

from pexpolicy.models.extras import NO_EXTRAS, Extras
from pexpolicy.tables.base import MAX_BUDGET, Table


class BreakerTable(Table):
    """``[plugins.NAME.breaker]``: when a failing plugin is left alone. Times in seconds."""

    failures: int = Field(5, ge=1, le=10_000)
    window: float = Field(30.0, gt=0.0)
    pause: float = Field(30.0, gt=0.0)


class PluginTable(Table):
    """``[plugins.NAME]``: how a plugin is asked; ``settings`` belongs to the plugin. Times in
    seconds.
    """

    priority: int = 100
    mode: Literal["decide", "shadow"] = "decide"
    isolation: Literal["none", "process"] = "none"
    processes: int = Field(2, ge=1, le=64)
    memory_mb: int = Field(512, ge=64)
    breaker: BreakerTable | None = None
    timeout: float = Field(1.0, ge=0.001, le=MAX_BUDGET)
    on_error: Literal["skip", "reject"] = "skip"
    threads: int = Field(8, ge=1, le=256)
    settings: dict[str, Any] = Field(default_factory=dict)

    _extras: Extras = PrivateAttr(NO_EXTRAS)

    @property
    def extras(self) -> Extras:
        """What ``[infinity]`` admits beyond the contract."""
        return self._extras

    def admitting(self, extras: Extras) -> Self:
        """The same for a configuration that admits these."""
        table = self.model_copy()
        table._extras = extras  # noqa: SLF001 - its own
        return table
