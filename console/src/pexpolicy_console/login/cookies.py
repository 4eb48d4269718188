"""The cookie of a session."""

from __future__ import annotations

from aiohttp import hdrs, web

from pexpolicy_console.context import console_of

PLAIN_NAME = "pexpolicy_console"
SECURE_NAME = "__Host-pexpolicy_console"
"""Browsers accept it from HTTPS only, for this host and the path /."""


def is_secure(request: web.Request) -> bool:
    """Return whether the browser uses HTTPS, also through a proxy that ends it."""
    url = console_of(request).config.settings.console.url
    return request.secure or (url is not None and url.startswith("https:"))


def session_cookie(request: web.Request) -> str:
    """Return the value of the cookie of the session, or nothing."""
    return request.cookies.get(_name(request), "")


def set_session_cookie(request: web.Request, response: web.StreamResponse, value: str) -> None:
    """Set the cookie of a session, until the browser is closed."""
    name, secure = _name(request), is_secure(request)
    response.set_cookie(name, value, path="/", secure=secure, httponly=True, samesite="Strict")


def delete_session_cookie(request: web.Request, response: web.StreamResponse) -> None:
    """Remove the cookie of a session."""
    name, secure = _name(request), is_secure(request)
    response.del_cookie(name, path="/", secure=secure, httponly=True, samesite="Strict")


def _name(request: web.Request) -> str:
    """Return the name of the cookie; a browser sends one to each port of a host, and consoles of
    several servers may be forwarded to ports of one.
    """
    port = request.headers.get(hdrs.HOST, "").rpartition(":")[2]
    name = SECURE_NAME if is_secure(request) else PLAIN_NAME
    return f"{name}_{port}" if port.isascii() and port.isdigit() else name
