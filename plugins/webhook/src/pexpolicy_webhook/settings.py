"""Settings of ``webhook``."""

from __future__ import annotations

import socket
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from pexpolicy import ConfigPath, PluginSettings
from pexpolicy.config.outgoing import whole_url
from pexpolicy.config.schema import EndpointName


def _receiver(written: str) -> str:
    whole_url(written, "https://events.example.com/pexpolicy", "token_env or token_file")
    return written


class WebhookSettings(PluginSettings):
    """``[plugins.webhook.settings]``. Times in seconds."""

    url: Annotated[str, AfterValidator(_receiver)]
    """The receiver: an address that accepts events by POST."""
    spool: ConfigPath
    """Folder of the events that are not delivered yet; created if it does not exist."""
    spool_mb: int = Field(256, ge=1, le=1_000_000)
    """Size of the folder in MiB. When it is full, events wait in the memory of the server."""
    batch: int = Field(1, ge=1, le=1000)
    """Events of a request: 1 sends each as a structured CloudEvent, more sends JSON batches."""
    timeout: float = Field(10.0, gt=0.0, le=300.0)
    """For one request, the connection included."""
    endpoints: list[EndpointName] = Field(default_factory=list)
    """The requests whose decisions are sent; all six when none is named."""
    source: str = Field(
        default_factory=lambda: f"urn:pexpolicy:{socket.gethostname()}", min_length=1
    )
    """``source`` of the events; by default ``urn:pexpolicy:`` and the name of the machine."""
    secret_env: str | None = None
    """Variable with the secret that signs requests (HMAC); without a secret they are not signed."""
    secret_file: ConfigPath | None = None
    """File with that secret."""
    token_env: str | None = None
    """Variable with a token that is sent as ``Authorization: Bearer``."""
    token_file: ConfigPath | None = None
    """File with that token."""
    ca_file: ConfigPath | None = None
    """Certificates to trust instead of those of the system."""
    client_cert: ConfigPath | None = None
    """Certificate that identifies this server to the receiver."""
    client_key: ConfigPath | None = None
    """Its key, unless it is in the same file."""

    @model_validator(mode="after")
    def _tls_has_a_use(self) -> Self:
        given = [n for n in ("ca_file", "client_cert", "client_key") if getattr(self, n)]
        if self.url.startswith("http://") and given:
            msg = f"{given[0]} is for https, and the URL is http"
            raise ValueError(msg)
        if self.client_key is not None and self.client_cert is None:
            msg = "client_key belongs to a client_cert"
            raise ValueError(msg)
        return self
