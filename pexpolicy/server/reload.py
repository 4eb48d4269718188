"""Reload of one process: builds, opens and activates the generation of a configuration."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pexpolicy.audit.audit_log import AuditLog
from pexpolicy.config.problems import Problem
from pexpolicy.config.settings import ConfigError, awaiting_restart
from pexpolicy.errors import describe_error
from pexpolicy.observability.telemetry import ReloadState
from pexpolicy.plugins.changes import configuration_changes
from pexpolicy.policy import Policy
from pexpolicy.server import gc_tuning
from pexpolicy.server.generations import GenerationRunner, GenerationSwitch, generation_of
from pexpolicy.server.reload_triggers import ReloadResult
from pexpolicy.tasks import run_in_thread

T = TypeVar("T")
SWITCH_INTERVAL_S = 0.0005
"""Thread switch interval during a build, so that calls wait less; Python's default is 0.005."""
BUILD_TIMEOUT_S = 120.0
"""Seconds until the building of a configuration is given up."""
_EMPTY_HASH = hashlib.sha256(b"").hexdigest()[:16]
_EMPTY = (
    "is empty: it may be about to be written, or the disk is full; write a comment into it to "
    "remove all settings, credentials too"
)

Build = Callable[[bytes | None], Policy]
"""Builds a policy from the content of a configuration file, or from the present file for ``None``;
raises ``ConfigError``."""


async def run_in_build_thread(build: Callable[[], T]) -> T:
    """Run ``build`` as ``run_in_thread`` does, with little delay for calls.

    The garbage collector is disabled meanwhile: a collection that traverses 100,000 new rooms would
    delay every call.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        with gc_tuning.paused():
            return await run_in_thread(build, "pexpolicy-build")
    finally:
        sys.setswitchinterval(interval)


class Reloader:
    """Reloads the configuration of one process.

    A reload has two phases, so that several workers can reload together: ``prepare`` opens a
    generation that answers no calls yet, ``commit`` activates it.
    """

    def __init__(
        self,
        generations: GenerationSwitch,
        audit: AuditLog,
        build: Build,
        state: ReloadState | None = None,
    ) -> None:
        self.state = state or ReloadState()
        self._generations = generations
        self._audit = audit
        self._build = build
        self._started_with = generations.policy.settings
        self._changes: list[str] = []
        """What changed with the configuration that was built last."""
        self._suspects: set[Path] = set()
        """Files of the configurations that were refused since the last activation. One of them may
        hold the error, so they are watched as well.
        """

    async def reload(self) -> ReloadResult:
        """Activate the configuration of the present file."""
        try:
            prepared = await self.prepare()
        except ConfigError as error:
            return self.refuse(error)
        return self.commit(prepared)

    async def prepare(self, content: bytes | None = None) -> GenerationRunner:
        """Build and open the generation of a configuration; raise ``ConfigError``."""
        policy: Policy | None = None
        limit = asyncio.timeout(BUILD_TIMEOUT_S)
        try:
            async with limit:
                policy = await run_in_build_thread(lambda: self._build_next(content))
            policy.take_over(self._generations.policy)
            runner = GenerationRunner(generation_of(policy, self._audit, self._generations.access))
            await self._generations.open(runner)
        except ConfigError as error:
            if policy is not None:
                error.files = policy.files
            raise
        except Exception as error:  # noqa: BLE001 - an internal error must not end the server
            if policy is not None:
                policy.close()
            text = describe_error(error).summary
            if limit.expired():
                text = f"could not be built within {BUILD_TIMEOUT_S:.0f} s"
            raise self._config_error(text) from None
        return runner

    def _build_next(self, content: bytes | None) -> Policy:
        old, policy = self._generations.policy, self._build(content)
        if policy.settings.config_hash == _EMPTY_HASH != old.settings.config_hash:
            policy.close()
            raise self._config_error(_EMPTY)
        self._changes = configuration_changes(policy, old)
        return policy

    def commit(self, prepared: GenerationRunner) -> ReloadResult:
        """Activate a prepared generation; the previous one is closed after its last call."""
        before = frozenset(self._generations.policy.warnings)
        self._generations.activate(prepared)
        self._suspects.clear()
        policy, changes = prepared.generation.policy, tuple(self._changes)
        restart_keys = awaiting_restart(self._started_with, policy.settings)
        state = self.state
        state.last_successful, state.last_success = True, time.time()
        state.problems, state.restart_required, state.changes = (), restart_keys, changes
        return ReloadResult(
            policy.config_hash,
            tuple(plugin.name for plugin in policy.plugins),
            files=tuple(map(str, policy.files)),
            changes=changes,
            notes=(
                *(f"{key}: the change needs a restart" for key in restart_keys),
                *(str(warning) for warning in policy.warnings if warning not in before),
            ),
        )

    async def abandon(self, prepared: GenerationRunner) -> None:
        """Close a prepared generation that another worker could not prepare."""
        self._note_refusal("another worker refused it")
        await self._generations.abandon(prepared)

    def refuse(self, error: ConfigError) -> ReloadResult:
        """Keep the active configuration."""
        problems = tuple(str(problem) for problem in error.problems)
        self._note_refusal(*problems)
        self._suspects.update(error.files)
        policy = self._generations.policy
        files = tuple(map(str, {*policy.files, *self._suspects}))
        return ReloadResult(policy.config_hash, problems=problems, files=files)

    def _note_refusal(self, *problems: str) -> None:
        self.state.last_successful = False
        self.state.problems = problems

    def _config_error(self, text: str) -> ConfigError:
        path = self._generations.policy.settings.path
        return ConfigError(path, [Problem((), text)])
