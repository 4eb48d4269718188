"""The HTTP client of the commands that query a running server."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import click

from pexpolicy.config.settings import Settings
from pexpolicy.errors import CONNECTION_CLOSED, describe_network_error

LOOPBACK_OF = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here


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
            self.fail(
                f"{text!r} is not the URL of a server: write http://127.0.0.1:8000", param, ctx
            )
        return text.rstrip("/")


def ask(url: str, seconds: float, token: str | None = None, *, own: bool = False) -> bytes:
    """Return the body of a response with status 200; raise ``NotAnsweredError``.

    ``own``: the server runs on this machine, and its certificate does not contain the address in
    the URL, so it is not verified.
    """
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the URL comes from the operator
    unverified = ssl._create_unverified_context() if own else None  # noqa: S323, SLF001 - see above
    # A proxy from the environment must not be used: it would see the token.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unverified)
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
        raise NotAnsweredError(
            describe_network_error(cause) if isinstance(cause, BaseException) else str(cause)
        ) from None
    except http.client.HTTPException:
        hint = "; with [tls] the URL begins with https://" if url.startswith("http:") else ""
        raise NotAnsweredError(f"the reply is not HTTP{hint}") from None
    except (OSError, ValueError) as error:
        raise NotAnsweredError(describe_network_error(error)) from None


def calls_url(settings: Settings) -> str:
    """Return the URL of the listener for calls, from this machine."""
    scheme = "http" if settings.tls is None else "https"
    return f"{scheme}://{_host_and_port(settings.server.host, settings.server.port)}"


def admin_url(settings: Settings) -> str:
    """Return the URL of the admin listener, from this machine."""
    return f"http://{_host_and_port(settings.admin.host, settings.admin.port)}"


def _host_and_port(host: str, port: int) -> str:
    host = LOOPBACK_OF.get(host.strip("[]"), host.strip("[]"))
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
