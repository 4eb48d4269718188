"""Schema of ``[console]``: the web console, which the package ``pexpolicy-console`` serves."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from pexpolicy.config.schema.access import Network, PasswordTable, User
from pexpolicy.config.schema.base import SecretTable, Table

Role = Literal["viewer", "operator", "admin"]


class ConsoleUserTable(PasswordTable):
    """``[[console.users]]``: one user with a password or its hash."""

    user: User
    role: Role = "viewer"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        self.require_one_place()
        return self


class ConsoleRolesTable(Table):
    """The groups of an identity provider or a proxy that have each role."""

    viewer: list[str] = Field(default_factory=list)
    operator: list[str] = Field(default_factory=list)
    admin: list[str] = Field(default_factory=list)


class ConsoleOidcTable(SecretTable):
    """``[console.oidc]``: login by OpenID Connect."""

    optional = {"client_secret": "the client secret"}

    issuer: str = Field(pattern=r"^https?://[^\s?#]+$")
    client_id: str = Field(min_length=1)
    client_secret_env: str | None = None
    client_secret_file: str | None = None
    audience: str | None = None
    user_claim: str = "sub"
    groups_claim: str = "groups"
    roles: ConsoleRolesTable


class ConsoleProxyTable(Table):
    """``[console.proxy]``: a proxy that authenticates users and names them in a header."""

    networks: list[Network] = Field(min_length=1)
    user_header: str = Field("X-Forwarded-User", pattern=r"^[A-Za-z0-9-]+$")
    groups_header: str = Field("X-Forwarded-Groups", pattern=r"^[A-Za-z0-9-]+$")
    roles: ConsoleRolesTable


class ConsoleTable(Table):
    """``[console]``: where the console listens, who may log in, and what it stores."""

    host: str = "127.0.0.1"
    port: int = Field(9109, ge=0, le=65535)
    url: str | None = Field(None, pattern=r"^https?://[^\s/?#]+$")
    label: str = Field("", max_length=40)
    folder: str = "console-data"
    index_mb: int = Field(4096, ge=16)
    session_hours: float = Field(8.0, gt=0.0, le=168.0)
    users: list[ConsoleUserTable] = Field(default_factory=list, max_length=64)
    tls: bool = False
    oidc: ConsoleOidcTable | None = None
    proxy: ConsoleProxyTable | None = None

    @model_validator(mode="after")
    def _users_differ(self) -> Self:
        names = [one.user for one in self.users]
        if (twice := next((name for name in names if names.count(name) > 1), None)) is not None:
            msg = f"{twice!r} is there twice; give each user one entry"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _url_for_oidc(self) -> Self:
        if self.oidc is not None and self.url is None:
            msg = 'oidc needs the url of the console, as in url = "https://console.example.com"'
            raise ValueError(msg)
        return self
