"""Configuration generations (prepared, active, draining, closed), and the reload of one process."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from pexpolicy import __version__
from pexpolicy.access.access_control import AccessControl
from pexpolicy.audit.audit_log import AuditLog
from pexpolicy.audit.redaction import redaction_of
from pexpolicy.builder import EMPTY
from pexpolicy.config.files import Kept, reading
from pexpolicy.config.places import grouped
from pexpolicy.config.problems import Problem
from pexpolicy.config.settings import ConfigError, awaiting_restart
from pexpolicy.errors import describe_error
from pexpolicy.fleet import last_good
from pexpolicy.observability.telemetry import ReloadState
from pexpolicy.plugins.binding import configuration_changes
from pexpolicy.policy import Policy
from pexpolicy.server.reload_triggers import ReloadResult
from pexpolicy.tasks import run_in_thread, start_background

T = TypeVar("T")
GENERATION_DRAIN_TIMEOUT_S = 10.0
"""Seconds for the last calls of a generation; more than any budget."""
Build = Callable[[bytes | None], Policy]
"""Builds a policy from the content of a configuration file, or from the present file for ``None``;
raises ``ConfigError``."""


@dataclass(slots=True, eq=False)
class Generation:
    """The access control, policy and audit log of one configuration.

    A call uses the same generation from its start to its reply, so no reply mixes two
    configurations, and its audit line names the one that was used.
    """

    policy: Policy
    access: AccessControl
    audit: AuditLog
    in_flight: int = 0
    """Calls that are not answered yet."""
    _serving: AsyncExitStack = field(default_factory=AsyncExitStack)
    _drained: asyncio.Event | None = None

    async def open(self) -> None:
        """Enter the lifespans of the plugins; raise ``ConfigError`` if one fails."""
        await self._serving.enter_async_context(self.policy.serving(in_server=True))

    def end_call(self) -> None:
        """Count a call as answered."""
        self.in_flight -= 1
        if self._drained is not None and not self.in_flight:
            self._drained.set()

    async def close(self) -> None:
        """Wait for the last call in flight, and leave the lifespans of the plugins.

        No call may start any more: another generation is active.
        """
        if self.in_flight:
            self._drained = asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(GENERATION_DRAIN_TIMEOUT_S):
                    await self._drained.wait()
        await self._serving.aclose()


def generation_of(
    policy: Policy, audit: AuditLog, previous: AccessControl | None = None
) -> Generation:
    """Return the generation of a policy, which writes to the files of ``audit``.

    The access control keeps the verified credentials of the ``previous`` one.
    """
    settings = policy.settings
    access = AccessControl.of(settings, previous)
    return Generation(policy, access, audit.with_redaction(redaction_of(settings)))


async def run_in_build_thread(build: Callable[[], T]) -> T:
    """Run ``build`` as ``run_in_thread`` does, with little delay for calls.

    The garbage collector is disabled meanwhile, and the built objects are exempt from collections
    later: traversing 100,000 rooms takes 0.15 s, in which no call is answered.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return await run_in_thread(build, "pexpolicy-build")
    finally:
        if collects:
            gc.enable()


class Reloader:
    """The active generation of a server, those that drain, and those that are not active yet.

    A reload has two phases, so that several workers can reload together: ``prepare`` opens a
    generation that answers no calls yet, ``commit`` calls ``activate`` with it.
    """

    _changes: tuple[str, ...] = ()
    """What changed with the configuration that was built last."""
    _kept: last_good.Activation | None = None
    """The earlier configuration that it is."""
    _warnings: tuple[str, ...] = ()
    """Those of it that the one before did not have."""

    def __init__(
        self, first: Generation, build: Build, activate: Callable[[Generation], None]
    ) -> None:
        self.state = ReloadState()
        self._build = build
        self._activate = activate
        self.active = first
        """The active generation."""
        self._draining: set[Generation] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._keeping = asyncio.Lock()
        """The latest is kept last."""
        self._started_with = first.policy.settings
        self.is_of_first_worker = first.policy.context.shared.history.is_first_worker
        if (fallback := first.policy.fallback) is not None:
            self.state.started_from = str(fallback)
            _ = self.refuse(fallback.error)

    async def reload(self, author: str = "", kept: str = "") -> ReloadResult:
        """Activate the configuration of the present file, or the ``kept`` one with this policy
        hash; ``author`` asked for it.
        """
        try:
            prepared = await self.prepare(kept=kept)
        except ConfigError as error:
            return self.refuse(error, author)
        return self.commit(prepared, author)

    async def prepare(self, content: bytes | None = None, kept: str = "") -> Generation:
        """Build and open the generation of a configuration; raise ``ConfigError``."""
        active = self.active
        policy: Policy | None = None
        try:
            policy = await run_in_build_thread(lambda: self._build_next(content, kept))
            policy.take_over(active.policy)
            generation = generation_of(policy, active.audit, active.access)
            await generation.open()
        except ConfigError as error:
            if policy is not None:
                error.files = policy.files
            raise
        except Exception as error:  # noqa: BLE001 - an internal error must not end the server
            if policy is not None:
                policy.close()
            problem = Problem((), describe_error(error).summary)
            raise ConfigError(active.policy.settings.path, [problem]) from None
        return generation

    def _build_next(self, content: bytes | None, name: str) -> Policy:
        old = self.active.policy
        self._kept, copies = _kept_by(old, name) if name else (None, None)
        with reading(copies):
            policy = self._build(None if name else content)
        if policy.settings.is_empty and not old.settings.is_empty:
            policy.close()
            raise ConfigError(policy.settings.path, [Problem((), EMPTY)])
        self._changes = tuple(configuration_changes(policy, old))
        known = set(old.warnings)
        added = [warning for warning in policy.warnings if warning not in known]
        # Grouping reads the file for the lines.
        self._warnings = tuple(map(str, grouped(added, policy.settings.path))) if added else ()
        if self._kept is not None:
            # A change of what was active before ends it as well.
            policy.files = tuple(dict.fromkeys((*policy.files, *old.files)))
            others = last_good.changed_secrets(self._kept, policy.settings)
            self._warnings += tuple(f"{name} is another secret now than then" for name in others)
        return policy

    def commit(self, prepared: Generation, author: str = "") -> ReloadResult:
        """Activate a prepared generation; the previous one is closed after its last call."""
        previous, self.active = self.active, prepared
        gc.freeze()
        self._activate(prepared)
        self._draining.add(previous)
        _ = start_background(self._drain(previous), self._closing)
        policy, changes, back_to, started_from = prepared.policy, self._changes, "", ""
        if self._kept is not None:
            back_to, by = self._kept.policy_hash, author or "an administrator"
            started_from = (
                f"decides by the files of {self._kept.moment} ({back_to}) until a file changes, "
                f"a reload or a restart, as told by {by}"
            )
        waiting = awaiting_restart(self._started_with, policy.settings)
        self.state = ReloadState(
            restart_required=waiting, changes=changes, started_from=started_from
        )
        self._record(previous.policy.policy_hash, author, changes=changes, back_to=back_to)
        self.keep(author, changes)
        notes = [f"{key}: the change needs a restart" for key in waiting]
        return ReloadResult(
            policy.policy_hash,
            tuple(plugin.name for plugin in policy.plugins),
            files=tuple(map(str, policy.files)),
            changes=changes,
            notes=(*notes, *self._warnings),
        )

    async def _drain(self, generation: Generation) -> None:
        await generation.close()
        self._draining.discard(generation)
        gc.unfreeze()
        gc.collect()
        gc.freeze()

    def _record(self, before: str, author: str, **facts: object) -> None:
        """Write the line of a reload, once for all workers."""
        if self.is_of_first_worker:
            active = self.active
            active.audit.reloaded(before, active.policy.policy_hash, author=author, **facts)

    def keep(self, author: str = "", changes: tuple[str, ...] = ()) -> None:
        """Keep the files of the active configuration on disk, once for all workers."""
        policy = self.active.policy
        if self.is_of_first_worker and policy.fallback is None:
            _ = start_background(self._keep(policy, author, changes), self._closing)

    async def _keep(self, policy: Policy, author: str, changes: tuple[str, ...]) -> None:
        settings, self.state.not_kept = policy.settings, ""
        given = policy.inputs, __version__, author, changes
        async with self._keeping:
            try:
                work = partial(last_good.keep, settings.state_dir, settings, *given)
                await run_in_thread(work, "pexpolicy-keep")
            except Exception as error:  # noqa: BLE001 - the server runs as well without
                self.state.not_kept = describe_error(error).summary

    async def abandon(self, prepared: Generation, author: str = "") -> None:
        """Close a prepared generation that another worker could not prepare."""
        self._refused(("another worker refused it",), author)
        await prepared.close()

    def _refused(self, problems: tuple[str, ...], author: str) -> None:
        self.state.last_successful, self.state.problems = False, problems
        self._record(self.active.policy.policy_hash, author, error=problems[0])

    def refuse(self, error: ConfigError, author: str = "") -> ReloadResult:
        """Keep the active configuration; files of the refused one, which may hold the error, are
        watched as well.
        """
        self._refused(tuple(map(str, grouped(error.problems, error.path))), author)
        policy = self.active.policy
        files = tuple(map(str, {*policy.files, *error.files}))
        return ReloadResult(policy.policy_hash, problems=self.state.problems, files=files)

    async def close(self) -> None:
        """Close every generation."""
        _ = start_background(self.active.close(), self._closing)
        await asyncio.gather(*self._closing, return_exceptions=True)

    def leftovers(self) -> list[str]:
        """Return the names of plugins and hooks that were abandoned and have not ended."""
        generations = (self.active, *self._draining)
        return sorted({name for one in generations for name in one.policy.abandoned})


def _kept_by(policy: Policy, name: str) -> tuple[last_good.Activation, Kept]:
    """Return what is kept by the server of a policy; raise ``ConfigError``."""
    settings = policy.settings
    found = last_good.last_good(settings.state_dir, settings.path, name)
    if settings.bundle is None and found is not None:
        return found
    text = f"{name} is not kept: pexpolicy config history lists what is"
    if settings.bundle is not None:
        text = "the policy comes from a bundle: build the earlier one with a higher sequence"
    raise ConfigError(settings.path, [Problem((), text)])
