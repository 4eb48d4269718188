"""Login by a proxy that has authenticated the user, and names the user in a header."""

from __future__ import annotations

from aiohttp import web

from pexpolicy.cli.for_console import Networks
from pexpolicy_console.action_log import ActionLogError
from pexpolicy_console.context import console_of, peer_of
from pexpolicy_console.login.sessions import Session
from pexpolicy_console.roles import role_of_groups


def session_of_proxy(request: web.Request) -> Session | None:
    """Return the session of a user whom a named proxy names; ``None`` without one.

    Headers of any other address are ignored. A header that is there twice is refused, since one of
    them may be the client's.
    """
    console = console_of(request)
    table = console.config.settings.console.proxy
    if table is None or not Networks(table.networks).holds(request.remote or ""):
        return None
    users = request.headers.getall(table.user_header, ())
    groups = request.headers.getall(table.groups_header, ())
    if len(users) != 1 or len(groups) > 1 or not users[0].strip():
        return None
    named = [group.strip() for group in ",".join(groups).split(",")]
    role = role_of_groups(named, table.roles)
    if role is None:
        return None
    session, is_new = console.sessions.of_proxy(users[0].strip(), role, table)
    if is_new:
        try:
            console.actions.record(
                "login", session.user, peer_of(request), method="proxy", role=role.label
            )
        except ActionLogError:
            console.sessions.end_of_proxy(session.user)
            raise
    return session
