"""The tables of the configuration file, and what may stand in each."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_BUDGET = 4.5
"""Seconds; the node gives up at 5, and the reply has to travel."""

EndpointName = Literal[
    "service_configuration",
    "participant_properties",
    "media_location",
    "participant_avatar",
    "directory_information",
    "registration_alias",
]


class Table(BaseModel):
    """The base of the tables: frozen, strict, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ServerTable(Table):
    """``[server]``: where it listens, and how long a call may take."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    base_path: str = ""
    budget: float = Field(4.0, gt=0.0, le=MAX_BUDGET)
    allow_anonymous: bool = False

    @field_validator("base_path")
    @classmethod
    def _base_path_is_a_prefix(cls, path: str) -> str:
        if path and (
            not path.startswith("/") or path.endswith("/") or re.search(r"[?#%\s{}]", path)
        ):
            msg = "begin with a slash and do not end with one, as in /api/pexip"
            raise ValueError(msg)
        if "/policy/v1" in path:
            msg = "leave out /policy/v1, which Infinity adds to the URL of its profile"
            raise ValueError(msg)
        return path


class AuthTable(Table):
    """``[auth]``: the credentials that Infinity's policy profile sends."""

    user: str = Field(min_length=1, max_length=100, pattern=r"^[^:\x00-\x1f]+$")
    password_env: str | None = None
    password_file: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.password_env is None) == (self.password_file is None):
            msg = "name where the password is: password_env (a variable) or password_file (a path)"
            raise ValueError(msg)
        return self


class AuditTable(Table):
    """``[audit]``: where the lines go; standard output without a path."""

    path: str | None = None


class PrivacyTable(Table):
    """``[privacy]``: what becomes of names, aliases and addresses of people in the audit."""

    personal: Literal["clear", "hashed", "dropped"] = "clear"
    key_env: str | None = None
    key_file: str | None = None

    @model_validator(mode="after")
    def _key_for_hashes(self) -> Self:
        sources = sum(source is not None for source in (self.key_env, self.key_file))
        if self.personal == "hashed" and sources != 1:
            msg = (
                'personal = "hashed" needs a key: name where it is, key_env (a variable) or '
                "key_file (a path)"
            )
            raise ValueError(msg)
        if self.personal != "hashed" and sources:
            msg = 'a key is for personal = "hashed" only; leave it out'
            raise ValueError(msg)
        return self


class EndpointTable(Table):
    """``[endpoints.NAME]``: what answers when no plugin decides."""

    default: Literal["continue", "reject"] = "continue"


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
    timeout: float = Field(1.0, gt=0.0, le=MAX_BUDGET)
    on_error: Literal["skip", "reject"] = "skip"
    threads: int = Field(8, ge=1, le=256)
    settings: dict[str, Any] = Field(default_factory=dict)


class InfinityTable(Table):
    """``[infinity]``: names of objects of Infinity. Where they are listed, an unlisted name is
    refused.
    """

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


class Document(Table):
    """A whole configuration file."""

    server: ServerTable = ServerTable()
    auth: AuthTable | None = None
    audit: AuditTable = AuditTable()
    privacy: PrivacyTable = PrivacyTable()
    infinity: InfinityTable = InfinityTable()
    endpoints: dict[EndpointName, EndpointTable] = Field(default_factory=dict)
    plugin_dirs: list[str] = Field(default_factory=list)
    plugins: dict[str, PluginTable] = Field(default_factory=dict)
