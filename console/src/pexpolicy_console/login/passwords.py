"""Verification of the passwords of ``[[console.users]]``."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr

from pexpolicy.cli.for_console import PasswordHash, secret_of
from pexpolicy.config.schema.console import ConsoleUserTable
from pexpolicy_console.roles import Role


class Passwords:
    """Verifies one password at a time, so that guesses cannot take all memory."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._decoy = PasswordHash.create("")

    async def verify(
        self, users: Sequence[ConsoleUserTable], folder: Path, user: str, password: str
    ) -> Role | None:
        """Return the role of a user if the password is right.

        An unknown user takes as long as a known one. Raises ``SecretError`` where the user's
        secret cannot be read.
        """
        table = next((one for one in users if one.user == user), None)
        secret = self._decoy if table is None else secret_of(table, folder)
        async with self._turn:
            is_right = await asyncio.to_thread(self._matches, secret, password.encode())
        return Role[table.role.upper()] if table is not None and is_right else None

    def _matches(self, secret: SecretStr | PasswordHash, password: bytes) -> bool:
        if isinstance(secret, PasswordHash):
            return secret.matches(password)
        self._decoy.matches(password)  # a quick answer would tell that there is such a user
        return hmac.compare_digest(secret.get_secret_value().encode(), password)
