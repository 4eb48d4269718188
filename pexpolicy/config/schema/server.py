"""Schema of ``[server]``, ``[limits]``, ``[admin]`` and ``[tracing]``."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from pexpolicy.config.schema.base import MAX_BUDGET, SecretTable, Table


def checked_host(host: str) -> str:
    """Return an address to listen on; raises ``ValueError`` with what to write."""
    if re.fullmatch(r"\[[0-9A-Fa-f:.]+\]", host):
        return host[1:-1]
    if re.fullmatch(r"[^:\[\]]*:\d+|\[.*\]:\d+|::1?:\d{4,5}", host):
        msg = "is an address without a port: port is a key of its own"
        raise ValueError(msg)
    if not re.fullmatch(r"[^\s/*\[\]]+", host):
        msg = "is an address alone, such as 127.0.0.1 or ::1; every address is 0.0.0.0 or ::"
        raise ValueError(msg)
    return host


Host = Annotated[str, AfterValidator(checked_host)]


_PLAIN_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*")
"""A path that every HTTP client sends as it is written."""


class ServerTable(Table):
    """``[server]``: listening address, processes and time limits."""

    host: Host = "127.0.0.1"
    """Address to listen on. Any address but loopback needs `[auth]`, or `allow_anonymous = true`.
    """
    port: int = Field(8000, ge=0, le=65535)
    """Port; 0 selects a free one, which the first line on standard error names."""
    base_path: str = ""
    """Path in front of `/policy/v1`, such as `/api/pexip`; the URL of Infinity's policy profile
    then ends in it. `/livez` and `/readyz` stay at the root.
    """
    budget: float = Field(4.0, gt=0.0, le=MAX_BUDGET)
    """Seconds for all plugins together in one call. Infinity waits 5 seconds, and the reply takes
    time to arrive.
    """
    allow_anonymous: bool = False
    """Serve without `[auth]` on an address that others can reach. They can then request PINs."""
    workers: int = Field(1, ge=1, le=64)
    """Number of worker processes, to use several cores; see
    [operations.md](operations.md#more-than-one-core)
    """
    drain_delay: float = Field(0.0, ge=0.0, le=60.0)
    """Time in which calls are still accepted after SIGTERM, while `/readyz` reports `draining`.
    Set it to the time that a load balancer takes to notice. See
    [operations.md](operations.md#stopping)
    """

    @field_validator("base_path")
    @classmethod
    def _check_base_path(cls, path: str) -> str:
        if path and (
            not path.startswith("/") or path.endswith("/") or re.search(r"[?#%\s{}]", path)
        ):
            msg = "begin with a slash and do not end with one, as in /api/pexip"
            raise ValueError(msg)
        if not _PLAIN_PATH.fullmatch(path) or not {".", ".."}.isdisjoint(path.split("/")):
            msg = (
                "takes ASCII letters, digits and -._~!$&'()*+,;=:@ between single slashes, and no "
                "part . or ..: what a node sends for another path would not match it"
            )
            raise ValueError(msg)
        if "/policy/v1" in path:
            msg = "leave out /policy/v1, which Infinity adds to the URL of its profile"
            raise ValueError(msg)
        return path


class AdminTable(SecretTable):
    """``[admin]``: the admin listener, in addition to the one for nodes."""

    optional = {"token": "the token"}

    enabled: bool = True
    """If false, the admin listener and metrics are disabled."""
    host: Host = "127.0.0.1"
    """Address to listen on. Any address but loopback needs a token."""
    port: int = Field(9107, ge=0, le=65535)
    """Port; 0 selects a free one, which the first line on standard error names. A port in use is a
    warning; that of `server.port` is an error.
    """
    token_env: str | None = None
    """Environment variable that holds the token for `/status`, `/metrics` and the
    [routes of plugins](plugins/hooks.md#routes), sent as `Authorization: Bearer TOKEN`. `check`
    warns below 16 characters.
    """
    token_file: str | None = None
    """Path of a file that holds it."""


Level = Literal["debug", "info", "warning", "error"]


class LogTable(Table):
    """``[log]``: lines of plugins and libraries on standard error."""

    level: Level = "info"
    """The lowest level of [lines](plugins/logging.md) of plugins and libraries; lines of the
    server itself are always written.
    """


class TracingTable(Table):
    """``[tracing]``: spans by OTLP over HTTP; the variables ``OTEL_*`` say the rest."""

    endpoint: str = Field("http://127.0.0.1:4318/v1/traces", pattern=r"^https?://[^\s]+$")
    """The collector, by OTLP over HTTP."""


class LimitsTable(Table):
    """``[limits]``: the limit of connections."""

    connections: int | None = Field(None, ge=1, le=100_000)
    """Maximum number of open connections of one process. Unset: as many as its limit of open files
    allows, at most 10,000.
    """
