"""``[admin]`` and ``[tracing]``: what operators see of a server that runs."""

from __future__ import annotations

from pydantic import Field

from pexpolicy.tables.base import SecretTable, Table


class AdminTable(SecretTable):
    """``[admin]``: the listener for operators, beside the one for nodes."""

    optional = {"token": "the token"}

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = Field(9107, ge=0, le=65535)
    token_env: str | None = None
    token_file: str | None = None


class TracingTable(Table):
    """``[tracing]``: where spans go, by OTLP over HTTP. ``sample`` is the part that is sent."""

    endpoint: str = Field("http://127.0.0.1:4318/v1/traces", pattern=r"^https?://[^\s]+$")
    service_name: str = Field("pexpolicy", min_length=1)
    sample: float = Field(1.0, ge=0.0, le=1.0)
