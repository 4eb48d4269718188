"""Preflight checks: configurations that must not be served."""

from __future__ import annotations

import os

from pexpolicy.access.networks import is_loopback, overlap
from pexpolicy.access.warnings import certificate_problems
from pexpolicy.config.problems import Problem
from pexpolicy.config.schema.server import AdminTable
from pexpolicy.config.settings import Settings
from pexpolicy.observability.tracing import missing

Ports = tuple[int | None, int | None]


def preflight_problems(
    settings: Settings,
    host: str | None = None,
    running_admin: AdminTable | None = None,
    ports: Ports = (None, None),
) -> list[Problem]:
    """Return why a server must not listen, such as PINs that are readable without a password.

    ``host`` is the address to listen on, by default the configured one. ``running_admin`` is the
    table with which the admin listener of a running server was started: it keeps its address and
    uses the new token. ``ports`` override the two configured ports.
    """
    problems = []
    address = host or settings.server.host
    # A table that could not be read is reported as an error of its own.
    if (
        not settings.credentials
        and "auth" not in settings.wrong
        and not settings.server.allow_anonymous
        and not is_loopback(address)
    ):
        text = (
            f"{address} is reachable from other machines and there is no [auth]; add it, or set "
            "allow_anonymous = true to allow calls without a password"
        )
        problems.append(Problem(("server", "host"), text))
    tables = [settings.admin] if running_admin is None else [running_admin, settings.admin]
    exposed = [table.host for table in tables if table.enabled and not is_loopback(table.host)]
    if exposed and settings.admin_token is None and "admin" not in settings.wrong:
        text = (
            f"{exposed[0]} is reachable from other machines and there is no token; add token_env "
            "or token_file"
        )
        problems.append(Problem(("admin", "host"), text))
    if not {"server", "admin"} & settings.wrong and _same_port(settings, address, ports):
        number = settings.server.port if ports[0] is None else ports[0]
        text = f"{number} is already server.port; choose another"
        problems.append(Problem(("admin", "port"), text))
    audit = settings.audit.path
    if audit is not None and os.path.normpath(settings.resolve(audit)) == os.path.normpath(
        settings.path
    ):
        text = "is this file, and lines would be appended to it: name another"
        problems.append(Problem(("audit", "path"), text))
    if settings.tracing is not None:
        problems += missing()
    return [*problems, *certificate_problems(settings)]


def _same_port(settings: Settings, address: str, ports: Ports) -> bool:
    """Return whether both listeners would use the same port on overlapping addresses."""
    admin = settings.admin
    number = settings.server.port if ports[0] is None else ports[0]
    other = admin.port if ports[1] is None else ports[1]
    return admin.enabled and number == other != 0 and overlap(address, admin.host)
