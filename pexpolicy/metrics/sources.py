"""What the metrics and the status ask other parts of the server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from pexpolicy.audit.state import AuditState
from pexpolicy.readiness import Readiness, State


class ReloadState(Protocol):
    """What became of the last configuration that was offered."""

    @property
    def last_successful(self) -> bool:
        """False once one was refused, until one is taken up."""

    @property
    def last_success(self) -> float:
        """When the one that serves was taken up, in seconds of the Unix epoch."""

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the last one was refused, where it was."""

    @property
    def awaiting_restart(self) -> tuple[str, ...]:
        """Keys of the one that serves that do not count before the next start."""


@dataclass
class Started:
    """The reloads of a server that has made none."""

    last_success: float = field(default_factory=time.time)
    last_successful: bool = True
    problems: tuple[str, ...] = ()
    awaiting_restart: tuple[str, ...] = ()


class CertificateState(Protocol):
    """The certificate of the server."""

    @property
    def not_after(self) -> datetime:
        """When it ends."""

    @property
    def problem(self) -> str:
        """Why the files that are there now are not the ones that are served, where that is so."""


class MemoryState(Protocol):
    """The memory of the process, in bytes."""

    @property
    def resident(self) -> int | None:
        """What it holds, where that is known."""

    @property
    def limit(self) -> int | None:
        """The watermark above which connections are closed, where there is one."""

    @property
    def is_exceeded(self) -> bool:
        """True while they are closed."""


def _started() -> Callable[[], ReloadState]:
    state = Started()
    return lambda: state


@dataclass(frozen=True, slots=True)
class Sources:
    """The parts of a server that have a state of their own. They are asked some times a second, on
    the event loop: an answer is what is known already, never a look at the disk.
    """

    readiness: Readiness = field(default_factory=lambda: Readiness(State.READY))
    audit: Callable[[], AuditState | None] = lambda: None
    reload: Callable[[], ReloadState] = field(default_factory=_started)
    certificate: Callable[[], CertificateState | None] = lambda: None
    connections: Callable[[], int | None] = lambda: None
    memory: Callable[[], MemoryState | None] = lambda: None

    def unready(self) -> list[str]:
        """Why no calls should come here; empty for a server that is ready.

        A plugin that fails is no reason: it fails everywhere, and every server would leave at once.
        """
        reasons = [] if self.readiness.is_ready else [self.readiness.state.value]
        audit = self.audit()
        if audit is not None and audit.status == "failed":
            reasons.append(f"the audit cannot be written: {audit.error or 'no reason is known'}")
        return reasons
