"""Credentials of ``[auth]``, with passwords and hashes read from their sources."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from pexpolicy.config.password_hash import PasswordHash, PasswordHashError, looks_like_hash
from pexpolicy.config.problems import Key, Problem
from pexpolicy.config.schema.access import AuthTable, CredentialTable, PasswordTable
from pexpolicy.config.secrets import SecretError, read_secret


@dataclass(frozen=True, slots=True)
class Credential:
    """A user with a password or a password hash."""

    user: str
    secret: SecretStr | PasswordHash = field(repr=False)


def credentials_of(
    auth: AuthTable | None, folder: Path
) -> tuple[tuple[Credential, ...], list[Problem]]:
    """Return all credentials of ``[auth]``, and a problem for each that cannot be read.

    Files are relative to ``folder``.
    """
    credentials: list[Credential] = []
    problems: list[Problem] = []
    for key, table in _credential_tables(auth):
        try:
            credentials.append(Credential(table.user, secret_of(table, folder)))
        except SecretError as error:
            problems.append(Problem((*key, error.key), str(error)))
    return tuple(credentials), problems


def secret_files_of(auth: AuthTable | None) -> Iterator[str]:
    """Yield the files that ``credentials_of`` reads."""
    for _, table in _credential_tables(auth):
        for file in (table.password_file, table.password_hash_file):
            if file is not None:
                yield file


def _credential_tables(auth: AuthTable | None) -> Iterator[tuple[Key, CredentialTable]]:
    if auth is None:
        return
    if auth.user is not None:
        yield (
            ("auth",),
            CredentialTable(
                user=auth.user,
                password_hash=auth.password_hash,
                password_hash_file=auth.password_hash_file,
                password_env=auth.password_env,
                password_file=auth.password_file,
            ),
        )
    for number, table in enumerate(auth.credentials):
        yield ("auth", "credentials", number), table


def secret_of(table: PasswordTable, folder: Path) -> SecretStr | PasswordHash:
    """Return the password or the hash of a user; raises ``SecretError``."""
    if table.password_hash is None and table.password_hash_file is None:
        source = table.secret("password")
        password = source.read(folder)
        if looks_like_hash(password):
            msg = (
                "holds a hash and no password: name it in password_hash_file, with a hash that "
                "pexpolicy hash-password prints"
            )
            raise SecretError(source.key, msg)
        return SecretStr(password)
    key = "password_hash"
    text = table.password_hash
    if text is None:
        key = "password_hash_file"
        text = read_secret("password_hash", None, table.password_hash_file, folder)
    try:
        return PasswordHash.parse(text)
    except PasswordHashError as error:
        raise SecretError(key, str(error)) from None
