"""Schema of ``[server]``, ``[admin]`` and ``[tracing]``."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from pexpolicy.config.schema.base import MAX_BUDGET, SecretTable, Table


class ServerTable(Table):
    """``[server]``: listening address, processes and time limits."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    base_path: str = ""
    budget: float = Field(4.0, gt=0.0, le=MAX_BUDGET)
    allow_anonymous: bool = False
    workers: int = Field(1, ge=1, le=64)
    drain_delay: float = Field(0.0, ge=0.0, le=60.0)

    @field_validator("base_path")
    @classmethod
    def _check_base_path(cls, path: str) -> str:
        if path and (
            not path.startswith("/") or path.endswith("/") or re.search(r"[?#%\s{}]", path)
        ):
            msg = "begin with a slash and do not end with one, as in /api/pexip"
            raise ValueError(msg)
        if "/policy/v1" in path:
            msg = "leave out /policy/v1, which Infinity adds to the URL of its profile"
            raise ValueError(msg)
        return path


class AdminTable(SecretTable):
    """``[admin]``: the admin listener, in addition to the one for nodes."""

    optional = {"token": "the token", "plugin_token": "the token for plugins"}

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = Field(9107, ge=0, le=65535)
    token_env: str | None = None
    token_file: str | None = None
    plugin_token_env: str | None = None
    plugin_token_file: str | None = None


Level = Literal["debug", "info", "warning", "error"]


class LogTable(Table):
    """``[log]``: lines of plugins and libraries on standard error."""

    level: Level = "info"


class TracingTable(Table):
    """``[tracing]``: spans by OTLP over HTTP. ``sample`` is the fraction that is sent."""

    endpoint: str = Field("http://127.0.0.1:4318/v1/traces", pattern=r"^https?://[^\s]+$")
    service_name: str = Field("pexpolicy", min_length=1)
    sample: float = Field(1.0, ge=0.0, le=1.0)
