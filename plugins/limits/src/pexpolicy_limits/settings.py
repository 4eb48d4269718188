"""Settings of ``limits``: how many each tenant may have, and what happens beyond that."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pexpolicy import PluginSettings
from pexpolicy.config.schema.plugins import AliasPattern, TenantTable, Word

Action = Literal["log", "bandwidth", "reject", "media_playback"]
Number = Annotated[int, Field(ge=0, le=1_000_000)]


class Limit(PluginSettings):
    """``{ soft = 50, hard = 60 }``: the call after so many gets the action."""

    soft: Number | None = None
    """The call after so many gets `on_soft`."""
    hard: Number | None = None
    """The call after so many gets `on_hard`."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.soft is None and self.hard is None:
            raise ValueError("is empty: write soft, hard, or both")
        if self.soft is not None and self.hard is not None and self.soft > self.hard:
            raise ValueError(f"soft = {self.soft} is above hard = {self.hard}")
        return self


class Tenant(TenantTable):
    """The limits of one tenant; each that is not written is unlimited."""

    participants: Limit | None = None
    """People in all its services together."""
    meetings: Limit | None = None
    """Conferences and lectures at the same time."""
    participants_per_meeting: Limit | None = None
    """People in each of these."""
    gateway_calls: Limit | None = None
    """Calls through a gateway; each is a participant as well."""
    on_soft: Action | None = None
    """What happens after a soft limit. Default: that of all tenants."""
    on_hard: Action | None = None
    """What happens after a hard limit. Default: that of all tenants."""
    on_stale: Literal["enforce", "admit"] | None = None
    """Whether a call is refused while events are missing. Default: that of all tenants."""
    exempt: list[AliasPattern] = []
    """Aliases, or patterns, that take no place and are never limited."""


class LimitsSettings(PluginSettings):
    """``[plugins.limits.settings]``: the tenants, and what holds for all of them."""

    tenants: Annotated[dict[str, Tenant], Field(min_length=1)]
    """By the names of `[tenants.NAME]`; with `tag` or `aliases`, a tenant of this table alone."""
    on_soft: Action = "log"
    """What happens after a soft limit."""
    on_hard: Action = "reject"
    """What happens after a hard limit."""
    on_stale: Literal["enforce", "admit"] = "enforce"
    """While events are missing: `"enforce"` counts what is known, `"admit"` refuses no call."""
    exempt: list[AliasPattern] = []
    """Aliases, or patterns, of all tenants that take no place and are never limited."""
    max_callrate: int = Field(512_000, ge=128_000, le=8_192_000)
    """Bits per second in each direction for the action `"bandwidth"`."""
    media_playlist_name: Word | None = None
    """The playlist of Infinity for the action `"media_playback"`, which needs it."""

    @model_validator(mode="after")
    def _has_playlist(self) -> Self:
        actions: set[str | None] = {self.on_soft, self.on_hard}
        actions.update(*({one.on_soft, one.on_hard} for one in self.tenants.values()))
        if "media_playback" in actions and self.media_playlist_name is None:
            raise ValueError("media_playlist_name is missing: the action media_playback needs it")
        return self
