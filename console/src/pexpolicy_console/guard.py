"""The check of each request: host, session, role, origin and CSRF token; and the headers of each
reply.

Everything is closed unless a route is named public.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from pexpolicy.server.admin.app import is_own_host
from pexpolicy_console.context import SESSION, console_of
from pexpolicy_console.login.cookies import session_cookie
from pexpolicy_console.login.proxy import session_of_proxy
from pexpolicy_console.login.sessions import Session
from pexpolicy_console.roles import Role

SAFE = (hdrs.METH_GET, hdrs.METH_HEAD)
CSRF_FIELD = "csrf_token"
CSRF_HEADER = "X-CSRF-Token"
MAX_BODY = 1 << 20
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Server": "pexpolicy",
}


class Guard:
    """The outermost middleware. ``roles`` has the role of each route that needs one, ``public``
    those that need none.
    """

    def __init__(self, roles: Mapping[object, Role], public: AbstractSet[object]) -> None:
        self._roles = roles
        self._public = public

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request, or refuse it."""
        if not _is_own_host(request):
            return _text(HTTPStatus.MISDIRECTED_REQUEST, "this is not the console of that name")
        if request.method not in SAFE and not _is_own_origin(request):
            return _text(HTTPStatus.FORBIDDEN, "the request comes from another site")
        if request.match_info.route.resource not in self._public:
            session = _session(request)
            if session is None:
                return _login(request)
            request[SESSION] = session
            if (problem := await self._problem(request, session)) is not None:
                return _text(HTTPStatus.FORBIDDEN, problem)
        return await handler(request)

    async def _problem(self, request: web.Request, session: Session) -> str | None:
        """Return why a user may not send a request."""
        if request.match_info.http_exception is not None:
            return None  # it is raised by the handler
        role = self._roles.get((request.method, request.match_info.route.resource))
        if role is None or session.role < role:
            return f"your role {session.role.label} may not do this"
        if request.method not in SAFE and not await _has_token(request, session):
            return "the form is too old: load its page again"
        return None


def _session(request: web.Request) -> Session | None:
    cookie = session_cookie(request)
    session = console_of(request).sessions.find(cookie) if cookie else None
    return session or session_of_proxy(request)


def _login(request: web.Request) -> web.StreamResponse:
    if request.method not in SAFE or "HX-Request" in request.headers:
        reply = _text(HTTPStatus.UNAUTHORIZED, "log in again")
        reply.headers["HX-Redirect"] = "/login"
        return reply
    if "text/event-stream" in request.headers.get(hdrs.ACCEPT, ""):
        # Without content a browser does not connect again.
        return web.Response(status=HTTPStatus.NO_CONTENT)
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={hdrs.LOCATION: "/login"})


def _is_own_host(request: web.Request) -> bool:
    table = console_of(request).config.settings.console
    host = request.headers.get(hdrs.HOST, "")
    if table.url is not None and host == urlsplit(table.url).netloc:
        return True
    return bool(host) and is_own_host(host, table.host)


def _is_own_origin(request: web.Request) -> bool:
    """Return whether a request comes from a page of the console.

    A browser sends ``Origin`` with each POST, so a request without it is refused.
    """
    if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        return False
    table = console_of(request).config.settings.console
    origin = request.headers.get(hdrs.ORIGIN, "")
    if table.url is not None and origin == table.url:
        return True
    return origin == f"{request.scheme}://{request.headers.get(hdrs.HOST, '')}"


async def _has_token(request: web.Request, session: Session) -> bool:
    sent = request.headers.get(CSRF_HEADER)
    if sent is None:
        sent = str((await request.post()).get(CSRF_FIELD, ""))
    return hmac.compare_digest(sent.encode("utf-8", "replace"), session.csrf_token.encode())


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Add the security headers to each reply, before it is sent (``on_response_prepare``).

    Browsers and proxies store no page.
    """
    response.headers.update(HEADERS)
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")


def _text(status: HTTPStatus, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n")
