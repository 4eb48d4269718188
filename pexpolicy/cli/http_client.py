"""HTTP client of commands that query a running server, and command ``pexpolicy healthcheck``."""

from __future__ import annotations

import http.client
import os
import ssl
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import click
from click.core import ParameterSource
from yarl import URL

from pexpolicy.cli.common import config_option, examples, load_or_exit, refuse
from pexpolicy.config.outgoing import basic
from pexpolicy.config.settings import Settings
from pexpolicy.errors import describe_network_error

DEFAULT_URL = "http://127.0.0.1:8000"
PASSWORD = "PEXPOLICY_PASSWORD"  # noqa: S105 - the name of a variable
"""The environment variable with the password for another policy server."""
LOOPBACK_OF = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here


class NotAnsweredError(Exception):
    """Raised without a response with a status below 300; ``status`` is the HTTP status, if any, and
    ``body`` the beginning of a body of JSON.
    """

    def __init__(self, text: str, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(text)
        self.status = status
        self.body = body


def server_url(text: str) -> str:
    """Return the base URL of a server without a trailing slash; raise ``BadParameter``."""
    try:
        parts = urlsplit(text)
        is_url = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or not text.isascii() or not text.isprintable() or " " in text:
        raise click.BadParameter(f"{text!r} is not the URL of a server: write {DEFAULT_URL}")
    return text.rstrip("/")


def profile(text: str) -> tuple[str, str | None]:
    """Return the URL of a policy profile, and the ``Authorization`` header for the user in it, with
    the password in the environment; raise ``BadParameter``.
    """
    url = URL(server_url(text))
    if url.query_string or url.fragment or "/policy/v1" in url.path:
        what = "write the URL of the policy profile: the part before /policy/v1"
        raise click.BadParameter(what)
    if url.user is None:
        return server_url(text), None
    if url.password is not None or PASSWORD not in os.environ:
        what = f"write the user only, and its password into the environment variable {PASSWORD}"
        raise click.BadParameter(what)
    return str(url.with_user(None)), basic(url.user, os.environ[PASSWORD])


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
    parts = urlsplit(url)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    connection = http.client.HTTPConnection(parts.netloc, timeout=seconds)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # own authorities, as in tls_context
        if own:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(parts.netloc, timeout=seconds, context=context)
    try:
        with closing(connection):
            path = url.partition(parts.netloc)[2]
            connection.request("GET" if body is None else "POST", path, body, headers)
            response = connection.getresponse()
            content = response.read()
    except http.client.HTTPException:
        hint = "; with [tls] the URL begins with https://" if url.startswith("http:") else ""
        raise NotAnsweredError(f"the reply is not HTTP{hint}") from None
    except (OSError, ValueError) as error:
        text = describe_network_error(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            text += "; name its CA in SSL_CERT_FILE"
        raise NotAnsweredError(text) from None
    if response.status < HTTPStatus.MULTIPLE_CHOICES:
        return content
    is_json = response.headers.get_content_subtype().endswith("json")
    shown = b"" if is_json or response.status != HTTPStatus.SERVICE_UNAVAILABLE else content[:1000]
    reasons = "".join(f": {line}" for line in shown.decode("utf-8", "replace").splitlines())
    text = f"it answers {response.status}{reasons}"
    raise NotAnsweredError(text, response.status, content if is_json else b"")


def admin_url(settings: Settings, port: int | None = None) -> str:
    """Return the URL of the admin listener, from this machine; with another port if given."""
    scheme = "https" if settings.admin.tls else "http"
    return f"{scheme}://{_host_and_port(settings.admin.host, port or settings.admin.port)}"


def _host_and_port(host: str, port: int) -> str:
    host = host.strip("[]")
    host = LOOPBACK_OF.get(host, host)
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
    type=server_url,
    metavar="URL",
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
