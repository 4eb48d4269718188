"""Credentials and passwords, read from where the configuration says that they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from pexpolicy.config.password_hash import PasswordHash, PasswordHashError
from pexpolicy.config.problems import Key, Problem
from pexpolicy.config.schema.access import AuthTable, CredentialTable
from pexpolicy.config.secrets import SecretError, read_secret


@dataclass(frozen=True, slots=True)
class Credential:
    """A user with a password, or with the hash of one."""

    user: str
    secret: SecretStr | PasswordHash = field(repr=False)


def credentials_of(
    auth: AuthTable | None, folder: Path
) -> tuple[tuple[Credential, ...], list[Problem]]:
    """All credentials of ``[auth]``, and what is wrong with those that cannot be read.

    Files are relative to ``folder``.
    """
    found: list[Credential] = []
    problems: list[Problem] = []
    for key, table in _written(auth):
        try:
            found.append(Credential(table.user, _secret(table, folder)))
        except SecretError as error:
            problems.append(Problem((*key, error.key), str(error)))
    return tuple(found), problems


def secret_files_of(auth: AuthTable | None) -> Iterator[str]:
    """The files that ``credentials_of`` reads."""
    for _, table in _written(auth):
        for file in (table.password_file, table.password_hash_file):
            if file is not None:
                yield file


def _written(auth: AuthTable | None) -> Iterator[tuple[Key, CredentialTable]]:
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


def _secret(table: CredentialTable, folder: Path) -> SecretStr | PasswordHash:
    """The password or the hash of a credential; raises ``SecretError``."""
    if table.password_hash is None and table.password_hash_file is None:
        return SecretStr(table.secret("password").read(folder))
    key = "password_hash"
    written = table.password_hash
    if written is None:
        key = "password_hash_file"
        written = read_secret("password_hash", None, table.password_hash_file, folder)
    try:
        return PasswordHash.read(written)
    except PasswordHashError as error:
        raise SecretError(key, str(error)) from None
