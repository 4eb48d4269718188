"""The job of a replay: the configurations and the selection."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pexpolicy.replay.network_block import NetworkBlock
from pexpolicy.replay.replay_policy import opened
from pexpolicy.replay.replayer import Replayer, Selection


@dataclass(frozen=True, slots=True)
class Job:
    """What is replayed: the new configuration, and the other side."""

    config: Path
    against: Path | None = None
    """Another configuration; without one, the replies of the records are the other side."""
    selection: Selection = field(default_factory=Selection)
    network: bool = False
    """True: plugins may ask the network."""


async def open_replayer(stack: AsyncExitStack, job: Job) -> Replayer:
    """Open the configurations of a job on this event loop, until the stack is left."""
    block = None if job.network else NetworkBlock()
    new = await stack.enter_async_context(opened(job.config, block))
    old = None
    if job.against is not None:
        old = await stack.enter_async_context(opened(job.against, block))
    return Replayer(new, old, job.selection)
