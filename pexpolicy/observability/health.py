"""What the metrics and the status ask other parts of the server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Protocol

from pexpolicy.audit.state import AuditState


@dataclass
class ReloadState:
    """The outcome of reloads: by default that of a server that has made none."""

    last_successful: bool = True
    """False once a configuration was refused, until one is activated."""
    last_success: float = field(default_factory=time.time)
    """When the active configuration was activated, in seconds since the epoch."""
    problems: tuple[str, ...] = ()
    """Why the last configuration was refused, where it was."""
    restart_required: tuple[str, ...] = ()
    """Keys of the active configuration that do not count before the next start."""


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


def _no_reloads() -> Callable[[], ReloadState]:
    state = ReloadState()
    return lambda: state


@dataclass(frozen=True, slots=True)
class StateSources:
    """The parts of a server that have a state of their own. They are asked some times a second, on
    the event loop: an answer is what is known already, never a look at the disk.
    """

    readiness: Readiness = field(default_factory=lambda: Readiness(ReadinessState.READY))
    audit: Callable[[], AuditState | None] = lambda: None
    reload: Callable[[], ReloadState] = field(default_factory=_no_reloads)
    certificate: Callable[[], CertificateState | None] = lambda: None
    connections: Callable[[], int | None] = lambda: None
    memory: Callable[[], MemoryState | None] = lambda: None

    def not_ready_reasons(self) -> list[str]:
        """Why no calls should come here; empty for a server that is ready.

        A plugin that fails is no reason: it fails everywhere, and every server would leave at once.
        """
        reasons = [] if self.readiness.is_ready else [self.readiness.state.value]
        audit = self.audit()
        if audit is not None and audit.status == "failed":
            reasons.append(f"the audit cannot be written: {audit.error or 'no reason is known'}")
        return reasons


class ReadinessState(Enum):
    """Where a server is between its start and its end. The value is the body of ``/readyz``."""

    STARTING = "starting"
    READY = "ok"
    DRAINING = "draining"


class Readiness:
    """The state of a server. Plugins that fail do not change it: all servers of an installation
    would leave together.
    """

    def __init__(self, state: ReadinessState = ReadinessState.STARTING) -> None:
        self.state = state

    @property
    def state(self) -> ReadinessState:
        """Where the server is now."""
        return self._state

    @state.setter
    def state(self, state: ReadinessState) -> None:
        self._state = state
        self.is_draining = state is ReadinessState.DRAINING
        """True once the server was told to stop: it answers, and asks to be left alone."""

    @property
    def is_ready(self) -> bool:
        """True while new calls should come here."""
        return self.state is ReadinessState.READY
