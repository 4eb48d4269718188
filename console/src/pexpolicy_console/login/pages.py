"""The login form: passwords, one-time links, and the cookie of a session."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import urlencode

from aiohttp import hdrs, web

from pexpolicy.cli.for_console import VerificationQueueFull
from pexpolicy.config.schema.console import ConsoleTable
from pexpolicy.config.secrets import SecretError
from pexpolicy_console.context import FORM, Page, Visit, console_of, peer_of, redirect, render
from pexpolicy_console.login.sessions import LoginLinks, Role, entry_of

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


def _name(request: web.Request) -> str:
    """Return the name of the cookie; a browser sends one to each port of a host, and consoles of
    several servers may be forwarded to ports of one.
    """
    port = request.headers.get(hdrs.HOST, "").rpartition(":")[2]
    name = SECURE_NAME if is_secure(request) else PLAIN_NAME
    return f"{name}_{port}" if port.isascii() and port.isdigit() else name


TO = "to"
"""The field of the form, and of its URL, with the page that the login leads to."""
OTHER_SITES = ("cross-site", "same-site")
_OWN = re.compile(r"/(?![/\\])[!-~]{0,2000}")
"""A path of the console: browsers take ``//`` and ``/\\`` for the beginning of another host."""


async def show(request: web.Request) -> web.StreamResponse:
    """Show the form; with ``?link=`` the button that uses a one-time link."""
    return form(request, link=request.query.get("link", ""))


async def log_in(request: web.Request) -> web.StreamResponse:
    """Log a user in by a one-time link or a password; wrong attempts are delayed and counted."""
    console, peer, sent = console_of(request), peer_of(request), request[FORM]
    table, user, method = console.config.settings.console, sent.get("user", ""), "password"
    found: tuple[str, Role] | None = None
    try:
        # A link cannot be guessed, so it works while passwords are refused.
        if link := sent.get("link", ""):
            method, user, found = "link", "", LoginLinks(console.config.folder).use(link)
        else:
            folder, password = console.config.path.parent, sent.get("password", "")
            with console.attempts.attempt(peer):
                role = await console.attempts.verify(table.users, folder, user, password, peer)
            found = None if role is None else (user, role)
    except VerificationQueueFull:
        text = "Too many attempts: try again, use a login link, or wait ten minutes."
        return form(request, text, HTTPStatus.TOO_MANY_REQUESTS, user=user)
    except SecretError as error:
        return form(request, f"The password cannot be verified: {error}", HTTPStatus.CONFLICT)
    if found is None:
        await console.attempts.failed(peer, "wrong credentials", user)
        text = "This user and password are wrong, or the link was used or is too old."
        return form(request, text, HTTPStatus.UNAUTHORIZED, user=user)
    return start_session(request, redirect(path_in(sent)), table, *found, method)


def start_session(
    request: web.Request,
    response: web.StreamResponse,
    table: ConsoleTable,
    user: str,
    role: Role,
    method: str,
) -> web.StreamResponse:
    """Log a user in: end the session that the browser has, and start a new one, by a cookie in the
    response.

    ``table`` is the configuration from before the credentials were verified.
    """
    console, peer = console_of(request), peer_of(request)
    console.actions.record("login", user, peer, method=method, role=role.label)
    console.attempts.pool.remember((peer,))
    console.sessions.end(session_cookie(request))
    cookie, _ = console.sessions.create(user, role, method, entry_of(table, method, user))
    # Without an age, the browser keeps it until it is closed.
    name, secure = _name(request), is_secure(request)
    response.set_cookie(name, cookie, path="/", secure=secure, httponly=True, samesite="Strict")
    return response


async def log_out(visit: Visit) -> web.StreamResponse:
    """End the session."""
    request = visit.request
    # The session ends even if a full disk keeps the logout from being recorded.
    if visit.console.sessions.end(session_cookie(request)):
        visit.record("logout")
    response = redirect("/login")
    name, secure = _name(request), is_secure(request)
    response.del_cookie(name, path="/", secure=secure, httponly=True, samesite="Strict")
    return response


def login_url(request: web.Request) -> str:
    """Return the URL of the login form that leads on to a page."""
    path = path_in({TO: request.path_qs})
    return "/login" if path == "/" else f"/login?{urlencode({TO: path})}"


def path_in(values: Mapping[str, str]) -> str:
    """Return the page that a form or URL names for after the login, or the first one."""
    path = values.get(TO, "/")
    is_own = _OWN.fullmatch(path) and not path.startswith(("/login", "/logout"))
    return path if is_own else "/"


def form(
    request: web.Request,
    problem: str = "",
    status: int = HTTPStatus.OK,
    link: str = "",
    user: str = "",
    path: str = "",
) -> web.StreamResponse:
    """Return the login form, with a problem above it and the ``user`` who was entered. It leads on
    to ``path``, or to the page that the form or URL names.
    """
    table = console_of(request).config.settings.console
    path = path_in({TO: path} if path else request.get(FORM, request.query))
    return render(
        request,
        "login.html",
        status,
        problem=problem,
        link=link,
        user=user,
        path=path,
        # Of a link on another site, a browser sends no strict cookie.
        may_be_known=path != "/" and request.headers.get("Sec-Fetch-Site") in OTHER_SITES,
        has_passwords=bool(table.users),
        has_oidc=table.oidc is not None,
    )


PAGES = (Page("/logout", log_out, method=hdrs.METH_POST),)
