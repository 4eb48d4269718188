"""The job of a replay: the configurations and the selection."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pexpolicy.conformance.http_client import connected
from pexpolicy.explain.coverage import Coverage
from pexpolicy.explain.explanation import load_local_policy
from pexpolicy.replay.network_block import NetworkBlock
from pexpolicy.replay.node_scripts import NodeScripts
from pexpolicy.replay.replay_policy import ReplayPolicy, opened
from pexpolicy.replay.replayer import Replayer, Selection
from pexpolicy.replay.server import PolicyServer, ServerAddress


@dataclass(frozen=True, slots=True)
class Job:
    """What is replayed: the new configuration, and the other side."""

    config: Path
    against: Path | ServerAddress | None = None
    """Another configuration, or a server; by default the replies of the records."""
    selection: Selection = field(default_factory=Selection)
    network: bool = False
    """True: plugins may ask the network."""
    coverage: bool = False
    """True: the items of plugins that decide are counted."""
    scripts: tuple[str, ...] = ()
    """Local policy scripts of the node, which follow each answer, as ``FILE`` or ``KIND=FILE``."""
    service_config: Path | None = None
    """A file with the service that Infinity itself has, as JSON, for the scripts."""


async def open_replayer(stack: AsyncExitStack, job: Job) -> Replayer:
    """Open the configurations of a job on this event loop, until the stack is left.

    Raise ``ConfigError`` and ``LocalPolicyError``.
    """
    node = None
    if job.scripts:
        local_policy = load_local_policy(job.scripts, None, job.service_config)
        await stack.enter_async_context(local_policy.running())
        node = NodeScripts(local_policy)
    block = None if job.network else NetworkBlock()
    new = await stack.enter_async_context(opened(job.config, block))
    old: ReplayPolicy | PolicyServer | None = None
    if isinstance(job.against, Path):
        old = await stack.enter_async_context(opened(job.against, block))
    elif job.against is not None:
        address = job.against
        wire = connected(address.url, authorization=address.authorization, tls=address.tls())
        old = PolicyServer(await stack.enter_async_context(wire))
    coverage = Coverage(new.policy) if job.coverage else None
    return Replayer(new, old, job.selection, block, coverage, node)
