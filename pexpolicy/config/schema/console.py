"""Schema of ``[console]``: the web console, which the package ``pexpolicy-console`` serves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pexpolicy.config.schema import Port, Table, Text
from pexpolicy.config.schema.server import CredentialTable, Network, User

Role = Literal["viewer", "operator", "admin"]


def _as_browsers_send_it(url: str) -> str:
    """Return a URL with its host in lower case, and without the port of its scheme."""
    scheme, _, host = url.partition("://")
    return f"{scheme}://{host.lower().removesuffix({'http': ':80', 'https': ':443'}[scheme])}"


Origin = Annotated[
    str, Field(pattern=r"^https?://[^\s/?#@]+$"), AfterValidator(_as_browsers_send_it)
]


class ConsoleUserTable(CredentialTable):
    """``[[console.users]]``: one user with a password or its hash."""

    user: User
    """Name; each user has a table `[[console.users]]`."""
    role: Role = "viewer"
    """Sees the pages; also tries requests and replays the audit; also reloads the configuration."""


class ConsoleOidcTable(Table):
    """``[console.oidc]``: login by OpenID Connect."""

    issuer: str = Field(pattern=r"^https?://[^\s?#]+$")
    """Issuer of OpenID Connect, compared exactly; needs `console.url` and the extra `oidc`."""
    client_id: Text
    """Identifier of the console there."""
    client_secret_env: str | None = None
    """Environment variable that holds its secret."""
    client_secret_file: str | None = None
    """Path of a file that holds it."""
    user_claim: str = "sub"
    """Claim that names the user."""
    groups_claim: str = "groups"
    """Claim that lists the groups of a user."""
    roles: dict[Role, list[str]]
    """Groups by role, as in `roles = { admin = ["GROUP"] }`; a user without a role is refused."""


class ConsoleTable(Table):
    """``[console]``: where the console listens, who may log in, and what it stores."""

    host: str = "127.0.0.1"
    """Address to listen on. Any address but loopback needs `tls`, or a `url` with `https`."""
    port: Port = 9109
    """Port; 0 selects a free one."""
    url: Origin | None = None
    """How browsers reach the console, if that is not its own address, as through a proxy."""
    label: str = Field("", max_length=40)
    """Name of the environment, shown on each page, such as `production`."""
    folder: str = "console-data"
    """Folder for its index and its own audit, `actions.jsonl`."""
    users: list[ConsoleUserTable] = Field([], max_length=64)
    tls: bool = False
    """Serve HTTPS with the certificate of `[tls]`."""
    trusted_proxies: list[Network] = []
    """Networks of proxies whose `X-Forwarded-For` names the address of the browser. Without them
    all users of a proxy share its address, and the count of wrong passwords of it.
    """
    oidc: ConsoleOidcTable | None = None
    """Login by OpenID Connect."""

    def _misfits(self) -> Iterator[str]:
        names = [one.user for one in self.users]
        for name in names:
            if names.count(name) > 1:
                yield f"{name!r} is there twice; give each user one entry"
        if self.oidc is not None and self.url is None:
            yield 'oidc needs the url of the console, as in url = "https://console.example.com"'
