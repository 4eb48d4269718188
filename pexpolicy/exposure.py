"""What the surroundings of a server must be like before it may listen."""

from __future__ import annotations

import ipaddress

from pexpolicy.config import Settings
from pexpolicy.problems import Problem
from pexpolicy.tracing import missing


def surroundings(settings: Settings, host: str | None = None) -> list[Problem]:
    """What keeps a server from listening: everybody could ask it for PINs.

    ``host`` is the address to listen on, by default the configured one.
    """
    problems = []
    address = host or settings.server.host
    if settings.user is None and not settings.server.allow_anonymous and not _loopback(address):
        text = (
            f"{address} can be reached from elsewhere and there is no [auth]; add it, or write "
            "allow_anonymous = true if everybody may ask"
        )
        problems.append(Problem(("server", "host"), text))
    admin = settings.admin
    if admin.enabled and settings.admin_token is None and not _loopback(admin.host):
        text = (
            f"{admin.host} can be reached from elsewhere and there is no token; add token_env or "
            "token_file"
        )
        problems.append(Problem(("admin", "host"), text))
    if settings.tracing is not None:
        problems += missing()
    return problems


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
