"""Whether new calls should come here: what ``/readyz`` says."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a server is between its start and its end. The value is the body of ``/readyz``."""

    STARTING = "starting"
    READY = "ok"
    DRAINING = "draining"


class Readiness:
    """The state of a server. Plugins that fail do not change it: all servers of an installation
    would leave together.
    """

    def __init__(self, state: State = State.STARTING) -> None:
        self.state = state

    @property
    def state(self) -> State:
        """Where the server is now."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        self.is_draining = state is State.DRAINING
        """True once the server was told to stop: it answers, and asks to be left alone."""

    @property
    def is_ready(self) -> bool:
        """True while new calls should come here."""
        return self.state is State.READY
