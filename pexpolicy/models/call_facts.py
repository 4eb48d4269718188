"""The facts of one call, from the HTTP layer to audit and telemetry."""

from __future__ import annotations

import time

import msgspec

from pexpolicy.models.request import Params


class CallFacts(msgspec.Struct, kw_only=True):
    """What is known of a call in addition to its answer."""

    params: Params
    """The parameters of its query."""
    alias: str = ""
    """The alias in its path."""
    peer: str | None = None
    """Address of the client."""
    config_hash: str = ""
    """The configuration that answers it."""
    began: float = msgspec.field(default_factory=time.perf_counter)
    """``time.perf_counter()`` when it came."""

    def seconds(self) -> float:
        """Return the time since it came."""
        return time.perf_counter() - self.began
