"""``[limits]`` of the configuration file.

Connections are limited in ``access/connections.py``, the size of a request in
``server/http/request_parser.py``, and calls in ``server/http/app.py``.
"""

from __future__ import annotations

from pydantic import Field

from pexpolicy.config.schema.base import Table


class LimitsTable(Table):
    """``[limits]``: limits of connections, requests and memory."""

    memory_mb: int | None = Field(None, ge=0)
    """Resident memory of one process, in MiB, above which unauthenticated connections are closed;
    `0`: never. Unset: three quarters of the memory limit of the control group, divided by
    the number of workers; never if the group has no limit.
    """
    header_bytes: int = Field(64 * 1024, ge=8 * 1024, le=1024 * 1024)
    """Maximum size of a request in bytes: the request line and all headers together."""
    connections: int | None = Field(None, ge=1, le=100_000)
    """Maximum number of open connections of one process. Unset: as many as its limit of open files
    allows, at most 10,000.
    """
    connections_per_peer: int = Field(250, ge=1, le=100_000)
    """The same for one address; it does not apply to `access.trusted_proxies`."""
    request_seconds: float = Field(10.0, gt=0.0, le=10.0)
    """Time for a request to arrive, for a TLS handshake, and for the client to read a reply."""
    idle_seconds: float = Field(3600.0, ge=5.0)
    """How long an authenticated connection may be idle."""
