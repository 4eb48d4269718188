"""What the surroundings of a server must be like before it may listen."""

from __future__ import annotations

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
    operators: AdminTable | None = None,
    ports: Ports = (None, None),
) -> list[Problem]:
    """What keeps a server from listening: everybody could ask it for PINs, or nobody could.

    ``host`` is the address to listen on, by default the configured one. ``operators`` is the table
    by which a running server listens already: it stays where it is, and takes the new token.
    ``ports`` are those of nodes and of operators that stand in for the configured ones.
    """
    problems = []
    address = host or settings.server.host
    # What could not be read is there all the same, and told as an error of its own.
    if (
        not settings.credentials
        and "auth" not in settings.wrong
        and not settings.server.allow_anonymous
        and not is_loopback(address)
    ):
        text = (
            f"{address} can be reached from elsewhere and there is no [auth]; add it, or write "
            "allow_anonymous = true if everybody may ask"
        )
        problems.append(Problem(("server", "host"), text))
    tables = [settings.admin] if operators is None else [operators, settings.admin]
    reached = [table.host for table in tables if table.enabled and not is_loopback(table.host)]
    if reached and settings.admin_token is None and "admin" not in settings.wrong:
        text = (
            f"{reached[0]} can be reached from elsewhere and there is no token; add token_env or "
            "token_file"
        )
        problems.append(Problem(("admin", "host"), text))
    if not {"server", "admin"} & settings.wrong and _same_port(settings, address, ports):
        number = settings.server.port if ports[0] is None else ports[0]
        text = f"is server.port too, {number}: write another number for one of the two"
        problems.append(Problem(("admin", "port"), text))
    if settings.tracing is not None:
        problems += missing()
    return [*problems, *certificate_problems(settings)]


def _same_port(settings: Settings, address: str, ports: Ports) -> bool:
    """True where operators would be given the port of the nodes, and the server none."""
    admin = settings.admin
    number = settings.server.port if ports[0] is None else ports[0]
    other = admin.port if ports[1] is None else ports[1]
    return admin.enabled and number == other != 0 and overlap(address, admin.host)
