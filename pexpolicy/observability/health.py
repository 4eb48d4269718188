"""Readiness, and the sources of state for metrics and status."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from pexpolicy.access.certificates import Certificates
from pexpolicy.audit.state import AuditState
from pexpolicy.background.schedule import JobRuns


@dataclass
class ReloadState:
    """The outcome of reloads; the default is that of a server without any."""

    last_successful: bool = True
    """False after a refused reload, until a configuration is activated."""
    last_success: float = field(default_factory=time.time)
    """The time of the last activation in seconds since the epoch."""
    problems: tuple[str, ...] = ()
    """The errors of the last configuration, if it was refused."""
    restart_required: tuple[str, ...] = ()
    """Changed keys that take effect at the next start."""
    changes: tuple[str, ...] = ()
    """What the last reload changed, by name."""


def _no_reloads() -> Callable[[], ReloadState]:
    state = ReloadState()
    return lambda: state


@dataclass(frozen=True, slots=True)
class StateSources:
    """The parts of a server with a state. They are read four times a second on the event loop, so
    they return what they know and do no I/O.
    """

    readiness: Readiness = field(default_factory=lambda: Readiness(ReadinessState.READY))
    audit: Callable[[], AuditState | None] = lambda: None
    reload: Callable[[], ReloadState] = field(default_factory=_no_reloads)
    certificate: Callable[[], Certificates | None] = lambda: None
    connections: Callable[[], int | None] = lambda: None
    job_runs: Callable[[], JobRuns] = Counter
    """Returns the runs of jobs since the last call."""

    def not_ready_reasons(self) -> list[str]:
        """Return why no calls should be sent here; empty for a server that is ready.

        A failing plugin is not a reason: it fails on every server, and all would become unready.
        """
        reasons = [] if self.readiness.is_ready else [self.readiness.state.value]
        audit = self.audit()
        if audit is not None and audit.status == "failed":
            reasons.append(f"the audit cannot be written: {audit.error or 'unknown reason'}")
        return reasons

    def public_reasons(self) -> list[str]:
        """Return the same for clients without credentials: no errors or paths."""
        if not self.not_ready_reasons():
            return []
        return ["not ready" if self.readiness.is_ready else self.readiness.state.value]


class ReadinessState(Enum):
    """The phase of a server. The value is the body of ``/readyz``."""

    STARTING = "starting"
    READY = "ok"
    DRAINING = "draining"


class Readiness:
    """The phase of a server; failing plugins do not change it."""

    def __init__(self, state: ReadinessState = ReadinessState.STARTING) -> None:
        self.state = state

    @property
    def state(self) -> ReadinessState:
        """The current phase."""
        return self._state

    @state.setter
    def state(self, state: ReadinessState) -> None:
        self._state = state
        self.is_draining = state is ReadinessState.DRAINING
        """True after the signal to stop: the server answers, and asks for no new calls."""

    @property
    def is_ready(self) -> bool:
        """True while new calls should be sent here."""
        return self.state is ReadinessState.READY
