"""HTTP client of commands that query a running server, and command ``pexpolicy healthcheck``."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from pexpolicy.cli.common import config_option, examples, load_or_exit, refuse
from pexpolicy.config.settings import Settings
from pexpolicy.errors import describe_network_error

DEFAULT_URL = "http://127.0.0.1:8000"
LOOPBACK_OF = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here


class NotAnsweredError(Exception):
    """Raised without a response with a status below 300; ``status`` is the HTTP status, if any, and
    ``body`` the beginning of a body of JSON.
    """

    def __init__(self, text: str, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(text)
        self.status = status
        self.body = body


class ServerUrl(click.ParamType[str]):
    """The base URL of a server without a trailing slash, or that of a policy profile."""

    name = "url"

    def __init__(self, *, is_profile: bool = False) -> None:
        self._is_profile = is_profile

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the URL; fail for anything else."""
        text = str(value)
        wrong = f"{text!r} is not the URL of a server: write {DEFAULT_URL}"
        try:
            parts = urlsplit(text)
            valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            self.fail(wrong, param, ctx)
        if not valid or not text.isascii() or not text.isprintable() or " " in text:
            self.fail(wrong, param, ctx)
        if self._is_profile and (parts.query or parts.fragment or "/policy/v1" in parts.path):
            what = "write the URL of the policy profile: the part before /policy/v1"
            self.fail(what, param, ctx)
        return text.rstrip("/")


def ask(
    url: str,
    seconds: float,
    token: str | None = None,
    *,
    own: bool = False,
    body: bytes | None = None,
) -> bytes:
    """Return the body of a reply. Raises ``NotAnsweredError``.

    A ``body`` of JSON is sent by POST. ``own`` accepts any certificate: that of the server of this
    machine bears another name than the loopback address. Otherwise SSL_CERT_FILE may name the CA
    certificates to trust.
    """
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - what the operator named
    context = ssl.create_default_context()
    if own:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # A proxy of the environment is for other networks, and would receive the token.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(request, timeout=seconds) as response:
            return bytes(response.read())
    except urllib.error.HTTPError as error:
        with error:
            content = error.read(1 << 16)
        is_json = error.headers.get_content_subtype().endswith("json")
        shown = content[:1000] if error.code == 503 and not is_json else b""  # noqa: PLR2004 - HTTP
        reasons = "".join(f": {line}" for line in shown.decode("utf-8", "replace").splitlines())
        text = f"it answers {error.code}{reasons}"
        raise NotAnsweredError(text, error.code, content if is_json else b"") from None
    except http.client.HTTPException:
        hint = "; with [tls] the URL begins with https://" if url.startswith("http:") else ""
        raise NotAnsweredError(f"the reply is not HTTP{hint}") from None
    except (OSError, ValueError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        text = cause if isinstance(cause, str) else describe_network_error(cause)
        if isinstance(cause, ssl.SSLCertVerificationError):
            text += "; name its CA in SSL_CERT_FILE"
        raise NotAnsweredError(text) from None


def admin_url(settings: Settings, port: int | None = None) -> str:
    """Return the URL of the admin listener, from this machine; with another port if given."""
    scheme = "https" if settings.admin.tls else "http"
    return f"{scheme}://{_host_and_port(settings.admin.host, port or settings.admin.port)}"


def _host_and_port(host: str, port: int) -> str:
    host = LOOPBACK_OF.get(host.strip("[]"), host.strip("[]"))
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


HEALTHCHECK_S = 3.0
"""Seconds for the server to answer."""
HINT = f"a server can be checked without it: pexpolicy healthcheck --url {DEFAULT_URL}"


@click.command(
    epilog=examples("pexpolicy healthcheck", "pexpolicy healthcheck --url http://127.0.0.1:9107")
)
@config_option
@click.option(
    "--url",
    type=ServerUrl(),
    help=f"The server, instead of the configured one; {DEFAULT_URL} without a configuration.",
)
@click.pass_context
def healthcheck(ctx: click.Context, config: Path, url: str | None) -> None:
    """Tell by the exit code if a server is ready.

    Exit code 0: ready. 1: not ready. 78: an invalid configuration. Without --url the check uses the
    configured host and port, or the admin listener if [tls] or [access] is configured and may
    reject a check from this machine.
    """
    explicit = ctx.get_parameter_source("config") is ParameterSource.COMMANDLINE
    address = url or (_configured_url(config) if explicit or config.exists() else DEFAULT_URL)
    try:
        ask(f"{address}/readyz", HEALTHCHECK_S, own=url is None)
    except NotAnsweredError as error:
        refuse(f"{address}: {error}", 1)


def _configured_url(config: Path) -> str:
    settings = load_or_exit(config, HINT)
    if settings.admin.enabled and (settings.tls is not None or settings.access.networks):
        return admin_url(settings)
    scheme = "http" if settings.tls is None else "https"
    return f"{scheme}://{_host_and_port(settings.server.host, settings.server.port)}"
