"""Reloading: build the new policy aside, open it, swap one reference; a bad one changes nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pexpolicy.audit.writing import Audit
from pexpolicy.config import ConfigError
from pexpolicy.faults import blame
from pexpolicy.lifetime import Lifetime
from pexpolicy.policy import Policy
from pexpolicy.problems import Problem
from pexpolicy.regime import regime_of
from pexpolicy.reload.aside import aside
from pexpolicy.reload.fixed import awaiting_restart
from pexpolicy.reload.verdict import Verdict
from pexpolicy.succession import Succession

LONGEST_BUILD = 120.0
"""Seconds until a configuration that is still being built counts as one that cannot be."""

Build = Callable[[bytes | None], Policy]
"""Makes the policy of what a configuration file holds, or of the file as it is for ``None``;
raises ``ConfigError``."""


@dataclass
class ReloadState:
    """What became of reloads. Metrics and status tell all of it but ``refused``."""

    last_successful: bool = True
    refused: int = 0
    """How many there were that were not taken up."""
    last_success: float = 0.0
    """Seconds since the epoch; the start counts."""
    problems: tuple[str, ...] = ()
    """Why the last configuration was refused, where it was."""
    awaiting_restart: tuple[str, ...] = ()
    """Keys of the configuration in force that do not count before the next start."""


class Reloads:
    """The reloads of one server, one at a time.

    A reload has two halves, so that several workers can agree: ``prepare`` opens a regime that
    nobody is served by, ``commit`` puts it in force.
    """

    def __init__(
        self,
        succession: Succession,
        audit: Audit,
        build: Build,
        state: ReloadState | None = None,
    ) -> None:
        self.state = state or ReloadState(last_success=time.time())
        self._succession = succession
        self._audit = audit
        self._build = build
        self._started_with = succession.policy.settings
        self.suspects: frozenset[Path] = frozenset()
        """What was read for the configurations that were refused since one was put in force: the
        fault may be in one of these files.
        """
        self._one_at_a_time = asyncio.Lock()

    @property
    def policy(self) -> Policy:
        """The policy that is in force."""
        return self._succession.policy

    async def reload(self) -> Verdict:
        """Take the configuration as it is now."""
        async with self._one_at_a_time:
            try:
                prepared = await self.prepare()
            except ConfigError as error:
                return self.refuse(error)
            return self.commit(prepared)

    async def prepare(self, content: bytes | None = None) -> Lifetime:
        """Build and open the regime of a configuration; raises ``ConfigError``."""
        given_up = threading.Event()

        def build() -> Policy:
            policy = self._build(content)
            if given_up.is_set():
                policy.close()
            return policy

        try:
            async with asyncio.timeout(LONGEST_BUILD):
                policy = await aside(build)
        except TimeoutError:
            given_up.set()
            raise self._because(f"it was not built within {LONGEST_BUILD:.0f} s") from None
        except ConfigError:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end a server either
            raise self._because(blame(error).summary) from None
        return await self._opened(policy)

    async def _opened(self, policy: Policy) -> Lifetime:
        """The regime of a policy, open; raises ``ConfigError``."""
        try:
            lifetime = Lifetime(regime_of(policy, self._audit, self._succession.gate))
            await lifetime.open()
        except ConfigError as error:
            error.files = policy.files
            raise
        except Exception as error:  # noqa: BLE001 - as above; whoever asked waits for a verdict
            policy.close()
            raise self._because(blame(error).summary) from None
        return lifetime

    def commit(self, prepared: Lifetime) -> Verdict:
        """Put a prepared regime in force; the one before it is closed behind its last call."""
        self._succession.follow(prepared)
        self.state.last_successful = True
        self.suspects = frozenset()
        self.state.problems = ()
        self.state.last_success = time.time()
        policy = prepared.regime.policy
        waiting = awaiting_restart(self._started_with, policy.settings)
        self.state.awaiting_restart = waiting
        return Verdict(
            policy.config_hash,
            tuple(plugin.name for plugin in policy.plugins),
            notes=(
                *(f"{key}: the change needs a restart" for key in waiting),
                *map(str, policy.advice),
            ),
        )

    async def abandon(self, prepared: Lifetime) -> None:
        """Close a prepared regime, which others could not prepare."""
        self._note_refusal("another worker refused it")
        await prepared.close()

    def refuse(self, error: ConfigError) -> Verdict:
        """Stay with what is in force."""
        problems = tuple(str(problem) for problem in error.problems)
        self._note_refusal(*problems)
        self.suspects = self.suspects.union(error.files)
        return Verdict(self.policy.config_hash, problems=problems)

    def _note_refusal(self, *problems: str) -> None:
        self.state.last_successful = False
        self.state.problems = problems
        self.state.refused += 1

    def _because(self, text: str) -> ConfigError:
        return ConfigError(self.policy.settings.path, [Problem((), text)])
