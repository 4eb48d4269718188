"""The policy of the configuration on the disk: built when its files change, opened when asked."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from pexpolicy.builder import policy_from
from pexpolicy.config.settings import ConfigError
from pexpolicy.models.context import DryRunClock
from pexpolicy.plugins.changes import configuration_changes
from pexpolicy.policy import BuildContext, Policy
from pexpolicy_console.dry_run.listing import Listing

Version = tuple[tuple[str, int, int], ...]


class PolicyOnDisk:
    """Builds and opens the policy of a configuration file, and keeps it while its files are the
    same.

    It changes nothing: jobs do not run, and cache files are not written.
    """

    def __init__(self, path: Path) -> None:
        self.clock = DryRunClock()
        """The clock of the policy."""
        self._path = path
        self._policy: Policy | None = None
        self._listing: Listing | None = None
        self._version: Version = ()
        self._failure: ConfigError | None = None
        self._stack: AsyncExitStack | None = None
        self._active: Policy | None = None

    async def policy(self) -> Policy:
        """Return the policy, not opened; raise ``ConfigError``."""
        if self._version and self._version == _version_of(self._files()):
            if self._failure is not None:
                raise self._failure
        else:
            await self.close()
            self._build()
        assert self._policy is not None
        return self._policy

    async def serving(self) -> Policy:
        """Return the policy, opened; raise ``ConfigError``."""
        policy = await self.policy()
        if self._stack is None:
            stack = AsyncExitStack()
            try:
                await stack.enter_async_context(policy.serving())
            except ConfigError:
                # A policy is opened once.
                self._version = ()
                raise
            self._stack = stack
        return policy

    async def listing(self) -> Listing:
        """Return the rooms and rules; raise ``ConfigError``."""
        await self.policy()
        assert self._listing is not None
        return self._listing

    async def changes(self, active_hash: str) -> list[str] | None:
        """Return what differs from the configuration with this hash; ``None`` if it was never
        seen; raise ``ConfigError``.
        """
        policy = await self.policy()
        if policy.config_hash == active_hash:
            self._active = policy
            return []
        if self._active is None or self._active.config_hash != active_hash:
            return None
        return configuration_changes(policy, self._active)

    def _build(self) -> None:
        self._failure = None
        context = BuildContext(wall_clock=self.clock, keeps_static_decisions=True)
        try:
            self._policy = policy_from(self._path, context=context)
        except ConfigError as error:
            self._failure = error
            raise
        finally:
            self._version = _version_of(self._files())
        self._listing = Listing(self._policy, self._path.read_text("utf-8", "replace"))

    def _files(self) -> tuple[Path, ...]:
        if self._failure is not None:
            return self._failure.files or (self._path,)
        return (self._path,) if self._policy is None else self._policy.files

    async def close(self) -> None:
        """Close the policy."""
        policy, stack = self._policy, self._stack
        self._policy = self._listing = self._stack = None
        if stack is not None:
            await stack.aclose()
        elif policy is not None and policy is not self._active:
            policy.close()


def _version_of(files: tuple[Path, ...]) -> Version:
    return tuple(_stamp(path) for path in files)


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), found.st_mtime_ns, found.st_size
