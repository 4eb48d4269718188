"""The pages for logging in and out."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from aiohttp import hdrs, web

from pexpolicy.access.login_throttle import LoginThrottle
from pexpolicy.config.secrets import SecretError
from pexpolicy_console.context import Console, console_of, session_of
from pexpolicy_console.login.cookies import (
    delete_session_cookie,
    session_cookie,
    set_session_cookie,
)
from pexpolicy_console.login.links import LoginLinks
from pexpolicy_console.login.passwords import Passwords
from pexpolicy_console.pages.page import Page, peer_of, render
from pexpolicy_console.roles import Role

MAX_FAILURES = 20
"""Wrong attempts of one address from which on it is refused, until ten minutes without one."""
MAX_WAITING = 16
"""Attempts that are verified or delayed at once, over all addresses."""


class LoginPages:
    """Logs users in by a one-time link or a password; wrong attempts are delayed and counted."""

    def __init__(self) -> None:
        self._throttle = LoginThrottle()
        self._passwords = Passwords()
        self._waiting = 0

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Show the form; with ``?link=`` the button that uses a one-time link."""
        return form(request, link=request.query.get("link", ""))

    async def log_in(self, request: web.Request) -> web.StreamResponse:
        """Log a user in."""
        console, peer = console_of(request), peer_of(request)
        now = asyncio.get_running_loop().time()
        if self._waiting >= MAX_WAITING or self._throttle.failures(peer, now) >= MAX_FAILURES:
            console.actions.record("login refused", None, peer, reason="too many attempts")
            text = "Too many attempts: wait ten minutes, or use another address."
            return form(request, text, HTTPStatus.TOO_MANY_REQUESTS)
        sent = await request.post()
        self._waiting += 1
        try:
            found = await self._verified(console, {k: str(v) for k, v in sent.items()})
            if found is None:
                console.actions.record("login refused", None, peer, reason="wrong credentials")
                await asyncio.sleep(self._throttle.record_failure(peer, now))
                text = "This user and password are wrong, or the link was used or is too old."
                return form(request, text, HTTPStatus.UNAUTHORIZED)
        except SecretError as error:
            return form(request, f"The password cannot be verified: {error}", HTTPStatus.CONFLICT)
        finally:
            self._waiting -= 1
        return start_session(request, *found)

    async def _verified(
        self, console: Console, form: dict[str, str]
    ) -> tuple[str, Role, str] | None:
        if link := form.get("link", ""):
            used = LoginLinks(console.config.folder).use(link)
            return None if used is None else (*used, "link")
        settings = console.config.settings
        user = form.get("user", "")
        role = await self._passwords.verify(
            settings.console.users, settings.path.parent, user, form.get("password", "")
        )
        return None if role is None else (user, role, "password")


def start_session(
    request: web.Request,
    user: str,
    role: Role,
    method: str,
    response: web.StreamResponse | None = None,
) -> web.StreamResponse:
    """Log a user in: end the session that the browser has, and start a new one.

    The cookie is set in ``response``, by default a redirect to the first page.
    """
    console = console_of(request)
    console.actions.record("login", user, peer_of(request), method=method, role=role.label)
    console.sessions.end(session_cookie(request))
    cookie, _ = console.sessions.create(user, role, method)
    if response is None:
        response = web.Response(status=HTTPStatus.SEE_OTHER, headers={hdrs.LOCATION: "/"})
    set_session_cookie(request, response, cookie)
    return response


async def log_out(request: web.Request) -> web.StreamResponse:
    """End the session."""
    console = console_of(request)
    console.actions.record("logout", session_of(request).user, peer_of(request))
    console.sessions.end(session_cookie(request))
    response = web.Response(status=HTTPStatus.SEE_OTHER, headers={hdrs.LOCATION: "/login"})
    delete_session_cookie(request, response)
    return response


def form(
    request: web.Request, problem: str = "", status: int = HTTPStatus.OK, link: str = ""
) -> web.StreamResponse:
    """Return the login form, with a problem above it."""
    table = console_of(request).config.settings.console
    return render(
        request,
        "login.html",
        status,
        problem=problem,
        link=link,
        has_passwords=bool(table.users),
        has_oidc=table.oidc is not None,
    )


PAGES = (Page("/logout", log_out, method=hdrs.METH_POST),)
