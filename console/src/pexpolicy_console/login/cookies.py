"""The cookie of a session."""

from __future__ import annotations

from aiohttp import web

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
    return request.cookies.get(SECURE_NAME if is_secure(request) else PLAIN_NAME, "")


def set_session_cookie(request: web.Request, response: web.StreamResponse, value: str) -> None:
    """Set the cookie of a session, until the browser is closed."""
    secure = is_secure(request)
    name = SECURE_NAME if secure else PLAIN_NAME
    response.set_cookie(name, value, path="/", secure=secure, httponly=True, samesite="Strict")


def delete_session_cookie(request: web.Request, response: web.StreamResponse) -> None:
    """Remove the cookie of a session."""
    secure = is_secure(request)
    name = SECURE_NAME if secure else PLAIN_NAME
    response.del_cookie(name, path="/", secure=secure, httponly=True, samesite="Strict")
