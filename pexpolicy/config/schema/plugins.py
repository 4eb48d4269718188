"""Schema of ``[plugins.NAME]``, ``[endpoints.NAME]`` and ``[infinity]``.

The types for a plugin's own settings (``PluginSettings``, ``ConfigPath``) are in
``config/plugin_settings.py``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, PrivateAttr

from pexpolicy.config.schema.base import MAX_BUDGET, Table
from pexpolicy.config.schema.server import Level
from pexpolicy.models.extras import NO_EXTRAS, Extras

Variable = Annotated[str, Field(pattern=r"^([A-Za-z_][A-Za-z0-9_]*|\*)$")]


class BreakerTable(Table):
    """``[plugins.NAME.breaker]``: the circuit breaker of a plugin. Times in seconds."""

    failures: int = Field(5, ge=1, le=10_000)
    window: float = Field(30.0, gt=0.0)
    pause: float = Field(30.0, gt=0.0)


class PluginTable(Table):
    """``[plugins.NAME]``: how a plugin is called, and its own ``settings``. Times in seconds."""

    plugin: str | None = Field(None, min_length=1)
    priority: int = 100
    mode: Literal["decide", "shadow"] = "decide"
    isolation: Literal["none", "process"] = "none"
    processes: int = Field(2, ge=1, le=64)
    memory_mb: int = Field(512, ge=64)
    cpu_percent: int | None = Field(None, ge=1, le=6400)
    file_mb: int | None = Field(None, ge=1)
    open_files: int | None = Field(None, ge=32)
    env: list[Variable] = Field(default_factory=list)
    breaker: BreakerTable | None = None
    timeout: float = Field(1.0, ge=0.001, le=MAX_BUDGET)
    on_error: Literal["skip", "reject"] = "skip"
    may_admit: bool = False
    threads: int = Field(8, ge=1, le=256)
    log_level: Level | None = None
    settings: dict[str, Any] = Field(default_factory=dict)

    _extras: Extras = PrivateAttr(NO_EXTRAS)

    @property
    def extras(self) -> Extras:
        """Extra fields and values of ``[infinity]``."""
        return self._extras

    def with_extras(self, extras: Extras, log_level: Level) -> Self:
        """Return a copy with these extra fields and values, and with a level of its log lines."""
        table = self.model_copy(update={"log_level": self.log_level or log_level})
        table._extras = extras  # noqa: SLF001 - of the same class
        return table


class SourceTable(Table):
    """``[sources.NAME]``: what plugins share. Its other keys are the settings of the driver."""

    model_config = ConfigDict(extra="allow")

    driver: str = Field(min_length=1)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the driver."""
        return self.model_extra or {}


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]
Word = Annotated[str, Field(min_length=1, max_length=250)]

NOT_OBJECTS = ("min_pin_length", "extra_fields", "extra_values")
"""Keys of ``[infinity]`` that are not lists of object names."""


class EndpointTable(Table):
    """``[endpoints.NAME]``: the default when no plugin decides, and what several answers make."""

    default: Literal["continue", "reject"] = "continue"
    combine: Literal["first", "merge"] = "first"


class InfinityTable(Table):
    """``[infinity]``: object names of Infinity; an unlisted name of a listed kind is invalid."""

    locations: list[str] | None = None
    themes: list[str] | None = None
    identity_provider_groups: list[str] | None = None
    h323_gatekeepers: list[str] | None = None
    sip_proxies: list[str] | None = None
    mssip_proxies: list[str] | None = None
    teams_proxies: list[str] | None = None
    stun_servers: list[str] | None = None
    turn_servers: list[str] | None = None
    gms_access_tokens: list[str] | None = None
    media_playlists: list[str] | None = None
    min_pin_length: int = Field(6, ge=4, le=20)
    extra_fields: list[Name] = Field(default_factory=list)
    extra_values: dict[Name, list[Word]] = Field(default_factory=dict)

    @property
    def names(self) -> dict[str, frozenset[str]]:
        """The names of objects, by listed kind."""
        return {
            kind: frozenset(names)
            for kind, names in self
            if names is not None and kind not in NOT_OBJECTS
        }

    @property
    def extras(self) -> Extras:
        """Fields and values that this release does not know and sends."""
        values = {name: frozenset(words) for name, words in self.extra_values.items()}
        return Extras(frozenset(self.extra_fields), values)
