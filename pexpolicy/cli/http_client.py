"""Asking a server that runs, and saying why it does not answer."""

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

ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is asked instead


class NotAnsweredError(Exception):
    """There is no answer, or none that says that all is well; ``status`` is that of HTTP."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class ServerUrl(click.ParamType[str]):
    """The URL of a server, without a slash at its end."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The URL; what is none is told."""
        text = str(value)
        try:
            parts = urlsplit(text)
            sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            sound = False
        if not sound or not text.isascii() or not text.isprintable() or " " in text:
            self.fail(f"{text!r} is no URL of a server: write http://127.0.0.1:8000", param, ctx)
        return text.rstrip("/")


def ask(url: str, seconds: float, token: str | None = None, *, own: bool = False) -> bytes:
    """The answer with status 200; raises ``NotAnsweredError``.

    ``own``: it is the server of this machine, whose certificate bears another name than the address
    that it is asked at.
    """
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - what the operator named
    unverified = ssl._create_unverified_context() if own else None  # noqa: S323, SLF001 - see above
    # A proxy of the environment is for the world outside, and would be told the token.
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
        said = "; ".join(text.split("\n")).strip("; ")
        raise NotAnsweredError(
            f"it answers {error.code}" + (f": {said}" if said else ""), error.code
        ) from None
    except urllib.error.URLError as error:
        cause = error.reason
        if url.startswith("https:") and isinstance(cause, ConnectionResetError):
            raise NotAnsweredError(CONNECTION_CLOSED) from None
        raise NotAnsweredError(
            describe_network_error(cause) if isinstance(cause, BaseException) else str(cause)
        ) from None
    except http.client.HTTPException:
        hint = "; with [tls] its address begins with https://" if url.startswith("http:") else ""
        raise NotAnsweredError(f"it gives no answer of HTTP{hint}") from None
    except (OSError, ValueError) as error:
        raise NotAnsweredError(describe_network_error(error)) from None


def calls_url(settings: Settings) -> str:
    """Where this machine reaches the listener for calls."""
    scheme = "http" if settings.tls is None else "https"
    return f"{scheme}://{_place(settings.server.host, settings.server.port)}"


def operators_url(settings: Settings) -> str:
    """Where this machine reaches the listener for operators."""
    return f"http://{_place(settings.admin.host, settings.admin.port)}"


def _place(host: str, port: int) -> str:
    host = ANYWHERE.get(host.strip("[]"), host.strip("[]"))
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
