"""What is needed to connect to a server: its URL, credentials and certificates."""

from __future__ import annotations

import base64
import re
import ssl
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator
from yarl import URL

from pexpolicy.config.files import track_file, why_unusable
from pexpolicy.config.plugin_settings import ConfigPath, PluginSettings, Secret
from pexpolicy.config.problems import SettingsError
from pexpolicy.config.secrets import revealed
from pexpolicy.models.subnets import is_loopback

__all__ = ["HttpSettings", "WebAddress", "basic", "is_encrypted", "is_loopback", "revealed"]
__all__ += ["tls_context", "whole_url"]


def whole_url(written: str, *, encoded: bool = False) -> URL:
    """Return the parts of an HTTP URL; raise ``ValueError``, also for credentials in it."""
    try:
        url = URL(written, encoded=encoded)
        host = url.raw_host
    except ValueError:  # an IPv6 address without brackets, a port above 65535
        url, host = URL(), None
    odd = re.search(r"[\s{}\\]|(?<!:)//|://[^/\[@]*:[^/\[@]*:", written)
    if odd or url.scheme not in ("http", "https") or not host:
        raise ValueError(
            "write a whole URL, as in https://www.example.com/path: without blanks, braces, "
            "backslashes and //, and an IPv6 address in brackets"
        )
    if url.raw_user is not None or url.raw_password is not None:
        raise ValueError("credentials are never in this file: write keys for a variable or file")
    return url


def is_encrypted(url: str) -> bool:
    """Return whether no one else can read what is sent to an HTTP URL; loopback counts."""
    parsed = URL(url)
    return parsed.scheme == "https" or is_loopback(parsed.host)


def tls_context(
    ca_file: Path | None,
    client_cert: Path | None = None,
    client_key: Path | None = None,
    *,
    verify: bool = True,
) -> ssl.SSLContext:
    """Return what verifies servers, by the system's certificates or those of a file.

    ``client_cert`` identifies this server. The files are tracked. Raises ``SettingsError``.
    """
    for file in filter(None, (ca_file, client_cert, client_key)):
        track_file(file)
    key, path = ("ca_file", ca_file)
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if ca_file is not None:
            # Own authorities often leave out what Python 3.13 wants in addition.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if client_cert is not None:
            key, path = "client_cert", client_cert
            # Without a password, an encrypted key would be asked for on the terminal.
            context.load_cert_chain(client_cert, client_key, password="")
    except (OSError, ValueError) as error:
        reason = str(error)
        if isinstance(error, ssl.SSLError):
            reason = "it holds no certificate or key in PEM without a password"
        elif path is not None and isinstance(error, OSError):
            reason = why_unusable(path, error)
        raise SettingsError(f"{path} cannot be used: {reason}", key=key) from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def postgresql_options(url: str, password: str) -> dict[str, Any]:
    """Return how asyncpg connects: with verified TLS, except on loopback and sockets."""
    parsed = URL(url)
    host = parsed.query.get("host", parsed.host)
    is_local = not host or host.startswith("/") or is_loopback(host)
    options: dict[str, Any] = {"dsn": url, "password": password or None}
    if not is_local and "sslmode" not in parsed.query:
        options["ssl"] = tls_context(None)
    return options


def basic(user: str, password: str) -> str:
    """Return the ``Authorization`` header of a user and password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _checked(written: str) -> str:
    whole_url(written)
    return written


WebAddress = Annotated[str, AfterValidator(_checked)]
"""A setting that is an HTTP URL without credentials."""


class HttpSettings(PluginSettings):
    """A web server that a plugin asks; a class that inherits it adds keys. Times in seconds."""

    url: WebAddress
    """The address."""
    timeout: float = Field(3.0, gt=0.0, le=60.0)
    """For one request, the connection included."""
    user: str | None = Field(None, min_length=1, max_length=100, pattern=r"^[^:\x00-\x1f]+$")
    """User of Basic authentication, which has no colon."""
    password: Secret | None = None
    """Password of the user."""
    token: Secret | None = None
    """A token that is sent as ``Authorization: Bearer``."""
    ca_file: ConfigPath | None = None
    """Certificates to trust instead of those of the system."""
    client_cert: ConfigPath | None = None
    """Certificate that identifies this server."""
    client_key: ConfigPath | None = None
    """Its unencrypted key, unless it is in the same file."""

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        given = [n for n in ("ca_file", "client_cert", "client_key") if getattr(self, n)]
        msg = ""
        if (self.user is None) != (self.password is None):
            msg = "user and a password belong together: write user and password_file"
        elif self.password is not None and self.token is not None:
            msg = "write a password or a token, not both"
        elif given and self.url.startswith("http://"):
            msg = f"{given[0]} is for https, and the URL is http"
        elif self.client_key is not None and self.client_cert is None:
            msg = "client_key belongs to a client_cert"
        if msg:
            raise ValueError(msg)
        return self

    def tls(self, *, verify: bool = True) -> ssl.SSLContext:
        """Return what verifies the server; the files are tracked. Raises ``SettingsError``."""
        return tls_context(self.ca_file, self.client_cert, self.client_key, verify=verify)

    def authorization(self) -> dict[str, str]:
        """Return the ``Authorization`` header; nothing without credentials."""
        if self.user is not None:
            return {"Authorization": basic(self.user, revealed(self.password))}
        return {"Authorization": f"Bearer {revealed(self.token)}"} if self.token else {}
