"""Local policy scripts that run in a process."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pexpolicy_local_policy.script_process import Job, Rendering, ScriptPool
from tests.support.local_policy import CALL, NOON, ROOM
from tests.support.waiting import HANG_S

Render = Callable[..., Rendering]


@pytest.fixture(scope="session")
def render() -> Iterator[Render]:
    """Return a function that runs a script in a process."""
    with asyncio.Runner() as runner:
        pool = ScriptPool(1, HANG_S)
        running = pool.running()
        runner.run(_entered(running))

        def run(source: str, now: float | None = NOON, **variables: Any) -> Rendering:
            job = Job(source, {"call_info": CALL, "service_config": ROOM, **variables}, now)
            return runner.run(pool.run(job, HANG_S))

        yield run
        runner.run(running.__aexit__(None, None, None))


async def _entered(running: Any) -> None:
    await running.__aenter__()
