"""Reloads of one process: a policy is built, opened and swapped in; a bad one changes nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pexpolicy.audit.audit_log import AuditLog
from pexpolicy.config.problems import Problem
from pexpolicy.config.restart_keys import awaiting_restart
from pexpolicy.config.settings import ConfigError
from pexpolicy.errors import describe_error
from pexpolicy.observability.health import ReloadState
from pexpolicy.policy import Policy
from pexpolicy.server.generations import GenerationRunner, GenerationSwitch, generation_of
from pexpolicy.server.reload.build_thread import run_in_build_thread
from pexpolicy.server.reload.result import ReloadResult

LONGEST_BUILD = 120.0
"""Seconds until a configuration that is still being built counts as one that cannot be."""

Build = Callable[[bytes | None], Policy]
"""Makes the policy of what a configuration file holds, or of the file as it is for ``None``;
raises ``ConfigError``."""


class Reloader:
    """Reloads the configuration of one process.

    A reload has two halves, so that several workers can agree: ``prepare`` opens a regime that
    answers no calls yet, ``commit`` activates it.
    """

    def __init__(
        self,
        succession: GenerationSwitch,
        audit: AuditLog,
        build: Build,
        state: ReloadState | None = None,
    ) -> None:
        self.state = state or ReloadState()
        self._succession = succession
        self._audit = audit
        self._build = build
        self._started_with = succession.policy.settings
        self._suspects: set[Path] = set()
        """What was read for the configurations that were refused since one was activated: the fault
        may be in one of these files.
        """

    async def reload(self) -> ReloadResult:
        """Activate the configuration as the file holds it now."""
        try:
            prepared = await self.prepare()
        except ConfigError as error:
            return self.refuse(error)
        return self.commit(prepared)

    async def prepare(self, content: bytes | None = None) -> GenerationRunner:
        """Build and open the regime of a configuration; raises ``ConfigError``."""
        given_up = threading.Event()

        def build() -> Policy:
            policy = self._build(content)
            if given_up.is_set():
                policy.close()
            return policy

        try:
            async with asyncio.timeout(LONGEST_BUILD):
                policy = await run_in_build_thread(build)
        except TimeoutError:
            given_up.set()
            raise self._because(f"it was not built within {LONGEST_BUILD:.0f} s") from None
        except ConfigError:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end a server either
            raise self._because(describe_error(error).summary) from None
        return await self._opened(policy)

    async def _opened(self, policy: Policy) -> GenerationRunner:
        """The regime of a policy, open; raises ``ConfigError``."""
        try:
            lifetime = GenerationRunner(generation_of(policy, self._audit, self._succession.gate))
            await lifetime.open()
        except ConfigError as error:
            error.files = policy.files
            raise
        except Exception as error:  # noqa: BLE001 - as above; whoever asked waits for a verdict
            policy.close()
            raise self._because(describe_error(error).summary) from None
        return lifetime

    def commit(self, prepared: GenerationRunner) -> ReloadResult:
        """Activate a prepared regime; the one before it is closed after its last call."""
        self._succession.activate(prepared)
        self._suspects.clear()
        self.state.last_successful = True
        self.state.problems = ()
        self.state.last_success = time.time()
        policy = prepared.generation.policy
        waiting = awaiting_restart(self._started_with, policy.settings)
        self.state.restart_required = waiting
        return ReloadResult(
            policy.config_hash,
            tuple(plugin.name for plugin in policy.plugins),
            files=tuple(map(str, policy.files)),
            notes=(
                *(f"{key}: the change needs a restart" for key in waiting),
                *map(str, policy.advice),
            ),
        )

    async def abandon(self, prepared: GenerationRunner) -> None:
        """Close a prepared regime, which others could not prepare."""
        self._note_refusal("another worker refused it")
        await prepared.close()

    def refuse(self, error: ConfigError) -> ReloadResult:
        """Keep the active configuration."""
        problems = tuple(str(problem) for problem in error.problems)
        self._note_refusal(*problems)
        self._suspects.update(error.files)
        policy = self._succession.policy
        files = tuple(map(str, {*policy.files, *self._suspects}))
        return ReloadResult(policy.config_hash, problems=problems, files=files)

    def _note_refusal(self, *problems: str) -> None:
        self.state.last_successful = False
        self.state.problems = problems

    def _because(self, text: str) -> ConfigError:
        path = self._succession.policy.settings.path
        return ConfigError(path, [Problem((), text)])
