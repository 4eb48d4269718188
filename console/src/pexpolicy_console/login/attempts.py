"""Attempts to log in: passwords are verified, wrong attempts counted, delayed and recorded."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path

from pydantic import SecretStr

from pexpolicy.cli import for_console as core
from pexpolicy.config.schema.console import ConsoleUserTable
from pexpolicy_console.action_log import ActionLog
from pexpolicy_console.login.sessions import Role

MAX_FAILURES = 20
"""Wrong attempts of one address from which on it is refused, until ten minutes without one."""
MAX_USER = 250
"""Characters of the name of a user that are kept, whatever an attempt holds."""
MAX_LINES = 100_000
"""Lines of the log in which those who logged in before are looked for."""

_log = logging.getLogger(__name__)


class LoginAttempts:
    """Counts the attempts of each address, whatever they hold, and of each user.

    An attempt counts from its beginning, so many at the same time get no further than one after
    the other.
    """

    def __init__(self, actions: ActionLog) -> None:
        self._peers = core.LoginThrottle()
        self._users = core.LoginThrottle()
        self.pool = core.VerificationPool()
        with suppress(OSError):
            last = actions.recent(limit=MAX_LINES)
            self.pool.remember(one["peer"] for one in last if one["event"] == "login")
        self._decoy = core.PasswordHash.create("")
        self._actions = actions
        self._refusals = core.RefusalLog(self._write)
        self.note = self._refusals.note
        """Records a refused login, together with others where there are many."""

    @contextmanager
    def attempt(self, peer: str) -> Iterator[None]:
        """Read or verify an attempt meanwhile; raise ``VerificationQueueFull``."""
        with self._peers.attempt(peer) as others:
            try:
                if others >= MAX_FAILURES:
                    raise core.VerificationQueueFull  # noqa: TRY301 - noted like one of the pool
                yield
            except core.VerificationQueueFull:
                self.note("too many attempts", HTTPStatus.TOO_MANY_REQUESTS, peer)
                raise

    async def verify(
        self,
        users: Sequence[ConsoleUserTable],
        folder: Path,
        user: str,
        password: str,
        peer: str = "",
    ) -> Role | None:
        """Return the role of a user if the password is right; an unknown user takes as long.

        Raises ``SecretError`` where the user's secret cannot be read, and
        ``VerificationQueueFull``.
        """
        table = next((one for one in users if one.user == user), None)
        secret = self._decoy if table is None else core.secret_of(table, folder)
        work = partial(self._matches, secret, password.encode())
        is_right = await self.pool.run(work, f"{user}:{password}".encode(), peer)
        return Role[table.role.upper()] if table is not None and is_right else None

    def _matches(self, secret: SecretStr | core.PasswordHash, password: bytes) -> bool:
        if isinstance(secret, core.PasswordHash):
            return secret.matches(password)
        self._decoy.matches(password)  # a quick answer would tell that there is such a user
        return hmac.compare_digest(secret.get_secret_value().encode(), password)

    async def failed(self, peer: str, reason: str, user: str = "") -> None:
        """Count and record a wrong attempt, and delay its reply.

        Guesses at one user from many addresses are delayed too, but not refused, as that
        would let a stranger lock a user out.
        """
        delay = self._peers.record_failure(peer)
        if user:
            delay = max(delay, self._users.record_failure(f"user {user[:MAX_USER]}"))
        self.note(reason, HTTPStatus.UNAUTHORIZED, peer)
        await asyncio.sleep(delay)

    def close(self) -> None:
        """Verify nothing more, and record the refusals that wait for a common line."""
        self.pool.close()
        self._refusals.end()

    def _write(self, reason: str, status: int, peer: str | None, **facts: object) -> None:
        try:
            self._actions.record("login refused", None, peer or "several", reason=reason, **facts)
        except OSError as error:
            # A login that succeeds is refused in that case.
            _log.warning("the refusal of a login cannot be recorded: %s", error)
