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
    header_bytes: int = Field(64 * 1024, ge=8 * 1024, le=1024 * 1024)
    connections: int = Field(900, ge=1, le=100_000)
    connections_per_peer: int = Field(250, ge=1, le=100_000)
    request_seconds: float = Field(10.0, gt=0.0, le=10.0)
    idle_seconds: float = Field(3600.0, ge=5.0)
