"""The login form: passwords, one-time links, and the cookie of a session."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlencode

from aiohttp import hdrs, web
from pydantic import SecretStr

from pexpolicy.cli.for_console import (
    PasswordHash,
    VerificationPool,
    VerificationQueueFull,
    secret_of,
)
from pexpolicy.config.schema.console import ConsoleTable, ConsoleUserTable
from pexpolicy.config.secrets import SecretError
from pexpolicy_console.context import SESSION, Console, console_of, peer_of
from pexpolicy_console.forms import FORM, form_of
from pexpolicy_console.login.links import LoginLinks
from pexpolicy_console.login.sessions import entry_of
from pexpolicy_console.pages.page import Page, render
from pexpolicy_console.roles import Role

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


class Passwords:
    """Verifies passwords in the threads of a pool."""

    def __init__(self) -> None:
        self._decoy = PasswordHash.create("")

    async def verify(
        self,
        pool: VerificationPool,
        users: Sequence[ConsoleUserTable],
        folder: Path,
        user: str,
        password: str,
        peer: str = "",
    ) -> Role | None:
        """Return the role of a user if the password is right.

        An unknown user takes as long as a known one. Raises ``SecretError`` where the user's
        secret cannot be read, and ``VerificationQueueFull``.
        """
        table = next((one for one in users if one.user == user), None)
        secret = self._decoy if table is None else secret_of(table, folder)
        work = partial(self._matches, secret, password.encode())
        is_right = await pool.run(work, f"{user}:{password}".encode(), peer)
        return Role[table.role.upper()] if table is not None and is_right else None

    def _matches(self, secret: SecretStr | PasswordHash, password: bytes) -> bool:
        if isinstance(secret, PasswordHash):
            return secret.matches(password)
        self._decoy.matches(password)  # a quick answer would tell that there is such a user
        return hmac.compare_digest(secret.get_secret_value().encode(), password)


TO = "to"
"""The field of the form, and of its URL, with the page that the login leads to."""
OTHER_SITES = ("cross-site", "same-site")
_OWN = re.compile(r"/(?![/\\])[!-~]{0,2000}")
"""A path of the console: browsers take ``//`` and ``/\\`` for the beginning of another host."""


class LoginPages:
    """Logs users in by a one-time link or a password; wrong attempts are delayed and counted."""

    def __init__(self) -> None:
        self._passwords = Passwords()

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Show the form; with ``?link=`` the button that uses a one-time link."""
        return form(request, link=request.query.get("link", ""))

    async def log_in(self, request: web.Request) -> web.StreamResponse:
        """Log a user in."""
        console, peer, sent = console_of(request), peer_of(request), form_of(request)
        user, table = "", console.config.settings.console
        try:
            # A link cannot be guessed, so it works while passwords are refused.
            if link := sent.get("link", ""):
                used = LoginLinks(console.config.folder).use(link)
                found = None if used is None else (*used, "link")
            else:
                user = sent.get("user", "")
                with console.attempts.attempt(peer):
                    found = await self._by_password(console, user, sent.get("password", ""), peer)
        except VerificationQueueFull:
            text = "Too many attempts: try again, use a login link, or wait ten minutes."
            return form(request, text, HTTPStatus.TOO_MANY_REQUESTS, user=user)
        except SecretError as error:
            return form(request, f"The password cannot be verified: {error}", HTTPStatus.CONFLICT)
        if found is None:
            await console.attempts.failed(peer, "wrong credentials", user)
            text = "This user and password are wrong, or the link was used or is too old."
            return form(request, text, HTTPStatus.UNAUTHORIZED, user=user)
        return start_session(request, table, *found, path=path_in(sent))

    async def _by_password(
        self, console: Console, user: str, password: str, peer: str
    ) -> tuple[str, Role, str] | None:
        pool, settings = console.attempts.pool, console.config.settings
        folder, users = settings.path.parent, settings.console.users
        role = await self._passwords.verify(pool, users, folder, user, password, peer)
        return None if role is None else (user, role, "password")


def start_session(
    request: web.Request,
    table: ConsoleTable,
    user: str,
    role: Role,
    method: str,
    response: web.StreamResponse | None = None,
    path: str = "/",
) -> web.StreamResponse:
    """Log a user in: end the session that the browser has, and start a new one.

    ``table`` is the configuration from before the credentials were verified. The cookie is set in
    ``response``, by default a redirect to ``path``.
    """
    console = console_of(request)
    console.actions.record("login", user, peer_of(request), method=method, role=role.label)
    console.attempts.pool.remember((peer_of(request),))
    console.sessions.end(session_cookie(request))
    cookie, _ = console.sessions.create(user, role, method, entry_of(table, method, user))
    if response is None:
        response = web.Response(status=HTTPStatus.SEE_OTHER, headers={hdrs.LOCATION: path})
    # Without an age, the browser keeps it until it is closed.
    name, secure = _name(request), is_secure(request)
    response.set_cookie(name, cookie, path="/", secure=secure, httponly=True, samesite="Strict")
    return response


async def log_out(request: web.Request) -> web.StreamResponse:
    """End the session."""
    console, session = console_of(request), request[SESSION]
    # The session ends even if a full disk keeps the logout from being recorded.
    console.sessions.end(session_cookie(request))
    console.actions.record("logout", session.user, peer_of(request))
    response = web.Response(status=HTTPStatus.SEE_OTHER, headers={hdrs.LOCATION: "/login"})
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
