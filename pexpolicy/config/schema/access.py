"""Schema of ``[auth]``, ``[access]``, ``[tls]`` and ``[limits]``."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pexpolicy.config.schema.base import SecretTable, Table
from pexpolicy.subnets import read_subnet


def _user(name: str) -> str:
    if re.search(r"[:\x00-\x1f]", name):
        msg = "must not contain a colon or control characters"
        raise ValueError(msg)
    return name


User = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_user)]


def _network(text: str) -> str:
    if text.strip().lower() in ("any", "all", "*"):
        msg = "leave the list out for every address, or write 0.0.0.0/0 and ::/0"
        raise ValueError(msg)
    read_subnet(text)
    return text


Network = Annotated[str, AfterValidator(_network)]


class PasswordTable(SecretTable):
    """The source of the password of a user, or of its hash."""

    password_hash: str | None = None
    """Scrypt hash of the password, as `pexpolicy hash-password` prints it."""
    password_hash_file: str | None = None
    """Path of a file that holds the hash."""
    password_env: str | None = None
    """Name of an environment variable that holds the password. `check` warns below 8 characters."""
    password_file: str | None = None
    """Path of a file that holds it; a line end after it is ignored."""

    @property
    def places(self) -> int:
        """Number of the four keys that are set."""
        hashes = (self.password_hash, self.password_hash_file)
        return sum(place is not None for place in hashes) + self.secret("password").places

    def require_one_place(self) -> None:
        """Raise ``ValueError`` unless exactly one of the four keys is set."""
        if self.places != 1:
            msg = (
                "write one of password_hash, password_hash_file (a path), password_env (a "
                "variable) or password_file (a path)"
            )
            raise ValueError(msg)


class CredentialTable(PasswordTable):
    """``[[auth.credentials]]``: one user, and the source of the password or its hash."""

    user: User
    """User name; needs exactly one of the next four."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        self.require_one_place()
        return self


class AuthTable(PasswordTable):
    """``[auth]``: the credentials that Infinity's policy profiles send."""

    user: User | None = None
    """User name; needs exactly one source of its password."""
    credentials: list[CredentialTable] = Field(default_factory=list, max_length=16)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.user is None and self.places:
            msg = 'name the user that the password belongs to, as in user = "pexip"'
            raise ValueError(msg)
        if self.user is None and not self.credentials:
            msg = "name a user and where the password is, or write [[auth.credentials]]"
            raise ValueError(msg)
        if self.user is not None:
            self.require_one_place()
        return self


class AccessTable(Table):
    """``[access]``: the networks that may connect, and the trusted proxies."""

    networks: list[Network] = Field(default_factory=list)
    """Networks that may connect, such as `10.44.0.0/16`, `2001:db8::/32` or a single address.
    Without any, every address may.
    """
    trusted_proxies: list[Network] = Field(default_factory=list)
    """Networks of proxies whose `X-Forwarded-For` is trusted: the address of the client in it then
    has to be in `access.networks`.
    """


class TlsTable(SecretTable):
    """``[tls]``: the certificate of the server, and the verification of clients."""

    optional = {"key_password": "the key's password"}

    certificate: str
    """Path of the certificate in PEM, followed by the intermediate ones."""
    key: str
    """Path of its key in PEM."""
    key_password_env: str | None = None
    """Environment variable with the password of the key, if it has one."""
    key_password_file: str | None = None
    """The same from a file."""
    client_ca: str | None = None
    """Path of the authorities, in PEM, that sign the certificates of clients."""
    client_crl: str | None = None
    """Path of the revocation lists, in PEM, for certificates of clients. Without `tls.client_ca`
    it is an error. See [access.md](access.md#client-certificates)
    """
    client_certificate: Literal["required", "optional"] = "required"
    """Whether a client has to present one. Without `tls.client_ca` it is an error."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """The oldest accepted version of TLS."""
