"""The check of each request: host, site, session, role, form and CSRF token; and the headers of
each reply.

Everything is closed unless a route is named public.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from aiohttp_jinja2 import context_processors_middleware

from pexpolicy.cli.for_console import VerificationQueueFull, is_own_host
from pexpolicy_console.context import FORM, SESSION, Response, console_of, peer_of, redirect, render
from pexpolicy_console.login.pages import form as login_form
from pexpolicy_console.login.pages import login_url, session_cookie
from pexpolicy_console.login.sessions import Role, Session, is_current
from pexpolicy_console.protocol import SECURITY_HEADERS, mark_authenticated

SAFE = (hdrs.METH_GET, hdrs.METH_HEAD)
CSRF_FIELD = "csrf_token"
CSRF_HEADER = "X-CSRF-Token"
CONTENT_TYPES = (
    "application/x-www-form-urlencoded",
    "application/x-www-form-urlencoded;charset=utf-8",
)
"""What browsers and htmx send, without blanks and in lower case."""
MAX_FIELDS = 64


def guard(roles: Mapping[object, Role], public: AbstractSet[object]) -> Middleware:
    """Return the outermost middleware, with the role that each method and resource needs."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> Response:
        """Answer a request, or refuse it."""
        if not _is_own_host(request):
            return _text(HTTPStatus.MISDIRECTED_REQUEST, "this is not the console of that name")
        if not _is_of_own_site(request):
            return _text(HTTPStatus.FORBIDDEN, "the request comes from another site")
        resource = request.match_info.route.resource
        if resource not in public:
            if (session := _session(request)) is None:
                return await _login(request)
            request[SESSION] = session
            mark_authenticated(request)
            role = roles.get((request.method, resource))
            # An unknown path or method is refused by the handler.
            is_known = request.match_info.http_exception is None
            if is_known and (role is None or session.role < role):
                problem = f"Your role, {session.role.label}, may not do this."
                return await _forbidden(request, problem)
        refused = await _form_problem(request, is_login=resource in public)
        return refused or await handler(request)

    return check


async def _form_problem(request: web.Request, *, is_login: bool) -> Response | None:
    """Read the form of a POST request; return the reply if it is refused.

    ``is_login``: it has no session and no token, and is an attempt to log in, whatever it holds.
    """
    if request.method != hdrs.METH_POST:
        if request.body_exists:
            return _text(HTTPStatus.BAD_REQUEST, "a request of this method has no body")
        return None
    attempts, peer = console_of(request).attempts, peer_of(request)
    try:
        request[FORM] = await _read_form(request)
    except web.HTTPException as error:
        try:
            if is_login:
                with attempts.attempt(peer):
                    pass
                await attempts.failed(peer, "malformed form")
        except VerificationQueueFull:
            return _text(HTTPStatus.TOO_MANY_REQUESTS, "too many attempts")
        return _text(HTTPStatus(error.status), error.text or "")
    if not is_login:
        sent = request.headers.get(CSRF_HEADER) or request[FORM].get(CSRF_FIELD, "")
        token = request[SESSION].csrf_token.encode()
        if not hmac.compare_digest(sent.encode("utf-8", "replace"), token):
            return await _forbidden(request, "This form is too old: load its page again.")
    return None


async def _read_form(request: web.Request) -> dict[str, str]:
    """Return the fields of a URL-encoded form in UTF-8, with one value each.

    Raises ``HTTPException``. The protocol of the console has received the whole body by now.
    """
    kinds = request.headers.getall(hdrs.CONTENT_TYPE, ())
    if len(kinds) != 1 or "".join(kinds[0].split()).lower() not in CONTENT_TYPES:
        raise web.HTTPUnsupportedMediaType(text=f"send a form as {CONTENT_TYPES[0]} in UTF-8")
    if hdrs.CONTENT_ENCODING in request.headers:
        raise web.HTTPUnsupportedMediaType(text="send the form without compression")
    body = await request.read()
    try:
        fields = parse_qsl(
            body.decode(),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:
        raise web.HTTPBadRequest(text="the form is malformed") from None
    form = dict(fields)
    if len(form) != len(fields):
        raise web.HTTPBadRequest(text="a field of the form is there twice")
    return form


def _session(request: web.Request) -> Session | None:
    console = console_of(request)
    cookie = session_cookie(request)
    # What a page loads by itself is no sign of a user.
    is_use = "HX-Request" not in request.headers
    session = console.sessions.find(cookie, is_use=is_use) if cookie else None
    if session is not None and not is_current(session, console.config.settings.console):
        console.sessions.end(cookie)
        session = None
    return session


async def _login(request: web.Request) -> Response:
    if "HX-Request" in request.headers:
        reply = _text(HTTPStatus.UNAUTHORIZED, "log in again")
        reply.headers["HX-Redirect"] = "/login"
        return reply
    if request.method in SAFE:
        return redirect(login_url(request))

    async def form(request: web.Request) -> Response:
        text = "Your session has ended, and what you sent was not done: log in again."
        resource = request.match_info.route.resource or ()
        has_page = any(route.method == hdrs.METH_GET for route in resource)
        path = request.path if has_page else "/"
        return login_form(request, text, HTTPStatus.UNAUTHORIZED, path=path)

    return await context_processors_middleware(request, form)


async def _forbidden(request: web.Request, problem: str) -> Response:
    async def page(request: web.Request) -> Response:
        return render(request, "error.html", HTTPStatus.FORBIDDEN, problem=problem)

    return await context_processors_middleware(request, page)


def _is_own_host(request: web.Request) -> bool:
    table = console_of(request).config.settings.console
    hosts = request.headers.getall(hdrs.HOST, ())
    host = hosts[0] if len(hosts) == 1 else ""
    is_named = table.url is not None and host == urlsplit(table.url).netloc
    return bool(host) and (is_named or is_own_host(host, table.host))


def _is_of_own_site(request: web.Request) -> bool:
    """Return whether a page of the console sends a request, which browsers name; one that only
    reads may follow a link as well.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if request.method in SAFE:
        is_link = request.headers.get("Sec-Fetch-Mode") == "navigate"
        return is_link or site in (None, "none", "same-origin")
    url = console_of(request).config.settings.console.url
    host = request.headers.get(hdrs.HOST, "")
    if url is None or host != urlsplit(url).netloc:
        url = f"{request.scheme}://{host}"
    is_own = request.headers.getall(hdrs.ORIGIN, ()) == [url]
    return is_own and site in (None, "same-origin")


async def add_headers(request: web.Request, response: Response) -> None:
    """Add the security headers to each reply; browsers and proxies store no page."""
    response.headers.update(SECURITY_HEADERS)
    # Compared at each use: a page and a script of different releases do not fit.
    kept = "no-cache" if request.path.startswith("/static/") else "no-store"
    response.headers.setdefault(hdrs.CACHE_CONTROL, kept)


def _text(status: HTTPStatus, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n")
