"""Draining: a server that is about to stop still answers, while those who ask look elsewhere."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from pexpolicy.observability.health import Readiness, State
from pexpolicy.stopping import Stop


async def drain(readiness: Readiness, stop: Stop, delay: float) -> None:
    """Say at ``/readyz`` that no more calls should come, and go on answering for ``delay`` seconds.

    Each reply closes its connection meanwhile. A second signal cuts the delay short.
    """
    readiness.state = State.DRAINING
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.hurried.wait(), delay)
