"""The HTTP client of the commands that query a running server."""

from __future__ import annotations

import http.client
import os
import re
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from pexpolicy.config.settings import Settings
from pexpolicy.errors import CONNECTION_CLOSED, describe_network_error

LOOPBACK_OF = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here


cacert_option = click.option(
    "--cacert",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="PEM file with the CA certificates to trust, instead of those of the system.",
)


class NotAnsweredError(Exception):
    """Raised without a response with status 200; ``status`` is the HTTP status, if any."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class ServerUrl(click.ParamType[str]):
    """The base URL of a server, without a trailing slash."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the URL; fail for anything else."""
        text = str(value)
        try:
            parts = urlsplit(text)
            valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            valid = False
        if not valid or not text.isascii() or not text.isprintable() or " " in text:
            meant = text if re.fullmatch(r"[\w.-]+:\d+", text) else "127.0.0.1:8000"
            self.fail(f"{text!r} is not the URL of a server: write http://{meant}", param, ctx)
        return text.rstrip("/")


def ask(
    url: str,
    seconds: float,
    token: str | None = None,
    *,
    own: bool = False,
    cacert: Path | None = None,
) -> bytes:
    """Return the body of a reply with status 200. Raises ``NotAnsweredError``.

    ``own`` accepts any certificate: that of the server of this machine bears another name than the
    loopback address. ``cacert`` names the CA certificates to trust instead of those of the system.
    """
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - what the operator named
    context = tls_context(cacert)
    if own:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # A proxy of the environment is for other networks, and would receive the token.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(request, timeout=seconds) as response:
            content: bytes = response.read()
            return content
    except urllib.error.HTTPError as error:
        with error:
            text = error.read(1000).decode("utf-8", "replace") if error.code == 503 else ""  # noqa: PLR2004 - HTTP
        reasons = "; ".join(text.split("\n")).strip("; ")
        raise NotAnsweredError(
            f"it answers {error.code}" + (f": {reasons}" if reasons else ""), error.code
        ) from None
    except urllib.error.URLError as error:
        cause = error.reason
        if url.startswith("https:") and isinstance(cause, ConnectionResetError):
            raise NotAnsweredError(CONNECTION_CLOSED) from None
        reason = describe_network_error(cause) if isinstance(cause, BaseException) else str(cause)
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason += "; name its CA with --cacert"
        raise NotAnsweredError(reason) from None
    except http.client.HTTPException:
        hint = "; with [tls] the URL begins with https://" if url.startswith("http:") else ""
        raise NotAnsweredError(f"the reply is not HTTP{hint}") from None
    except (OSError, ValueError) as error:
        raise NotAnsweredError(describe_network_error(error)) from None


def tls_context(cacert: Path | None) -> ssl.SSLContext:
    """Return a context that trusts the certificates of a file, by default those of the system.

    Raises ``click.BadParameter`` for a file without certificates.
    """
    try:
        return ssl.create_default_context(cafile=cacert)
    except (OSError, ValueError):
        raise click.BadParameter(f"{cacert} holds no PEM certificate") from None


def calls_url(settings: Settings) -> str:
    """Return the URL of the listener for calls, from this machine."""
    scheme = "http" if settings.tls is None else "https"
    return f"{scheme}://{_host_and_port(settings.server.host, settings.server.port)}"


def admin_url(settings: Settings, port: int | None = None) -> str:
    """Return the URL of the admin listener, from this machine; with another port if given."""
    return f"http://{_host_and_port(settings.admin.host, port or settings.admin.port)}"


def _host_and_port(host: str, port: int) -> str:
    host = LOOPBACK_OF.get(host.strip("[]"), host.strip("[]"))
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def authorization(user: str | None, password: str | None, variable: str | None) -> str | None:
    """Return the ``Authorization`` header for a password, or one in an environment variable.

    ``None`` without a user. Raise ``UsageError``.
    """
    from pexpolicy.conformance.http_client import basic  # noqa: PLC0415 - aiohttp

    if password is not None and variable is not None:
        raise click.UsageError("--password and --password-env exclude each other")
    if variable is not None:
        password = os.environ.get(variable)
        if password is None:
            raise click.UsageError(f"there is no environment variable {variable}")
    if (user is None) != (password is None):
        raise click.UsageError("--user and a password belong together")
    if user is None or password is None:
        return None
    if ":" in user:
        raise click.UsageError("a user name cannot contain a colon")
    return basic(user, password)
