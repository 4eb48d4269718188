"""``[auth]``, ``[access]``, ``[tls]`` and ``[limits]``: who may ask, and how much of anything."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pexpolicy.subnets import read_subnet
from pexpolicy.tables.base import Table


def _user(written: str) -> str:
    if re.search(r"[:\x00-\x1f]", written):
        msg = "must not contain a colon or control characters"
        raise ValueError(msg)
    return written


User = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_user)]


def _network(written: str) -> str:
    read_subnet(written)
    return written


Network = Annotated[str, AfterValidator(_network)]


class CredentialTable(Table):
    """``[[auth.credentials]]``: one user, and where the password or its hash is."""

    user: User
    password_hash: str | None = None
    password_hash_file: str | None = None
    password_env: str | None = None
    password_file: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = (
            *(self.password_hash, self.password_hash_file),
            *(self.password_env, self.password_file),
        )
        if sum(source is not None for source in sources) != 1:
            msg = (
                "write one of password_hash, password_hash_file (a path), password_env (a "
                "variable) or password_file (a path)"
            )
            raise ValueError(msg)
        return self


class AuthTable(Table):
    """``[auth]``: the credentials that Infinity's policy profiles send."""

    user: User | None = None
    password_hash: str | None = None
    password_hash_file: str | None = None
    password_env: str | None = None
    password_file: str | None = None
    credentials: list[CredentialTable] = Field(default_factory=list, max_length=16)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        written = (
            *(self.password_hash, self.password_hash_file),
            *(self.password_env, self.password_file),
        )
        sources = sum(source is not None for source in written)
        if self.user is None and sources:
            msg = "name the user that the password belongs to: user"
            raise ValueError(msg)
        if self.user is None and not self.credentials:
            msg = "name a user and where the password is, or write [[auth.credentials]]"
            raise ValueError(msg)
        if self.user is not None and sources != 1:
            msg = (
                "write one of password_hash, password_hash_file (a path), password_env (a "
                "variable) or password_file (a path)"
            )
            raise ValueError(msg)
        return self


class AccessTable(Table):
    """``[access]``: the networks that may connect, and the proxies that are believed."""

    networks: list[Network] = Field(default_factory=list)
    trusted_proxies: list[Network] = Field(default_factory=list)
    forwarded_header: Literal["X-Forwarded-For", "Forwarded"] = "X-Forwarded-For"


class TlsTable(Table):
    """``[tls]``: the certificate of the server, and whether clients show one."""

    certificate: str
    key: str
    key_password_env: str | None = None
    key_password_file: str | None = None
    client_ca: str | None = None
    client_certificate: Literal["required", "optional"] = "required"
    min_version: Literal["1.2", "1.3"] = "1.2"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.key_password_env is not None and self.key_password_file is not None:
            msg = "name one place of the key's password: key_password_env or key_password_file"
            raise ValueError(msg)
        return self


class LimitsTable(Table):
    """``[limits]``: how much of anything one server takes."""

    header_bytes: int = Field(32 * 1024, ge=8 * 1024, le=1024 * 1024)
    connections: int = Field(900, ge=1, le=100_000)
    connections_per_peer: int = Field(250, ge=1, le=100_000)
    request_seconds: float = Field(10.0, gt=0.0, le=10.0)
    idle_seconds: float = Field(3600.0, ge=5.0)
