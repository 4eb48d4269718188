"""Processes of a pool that end."""

import os
import signal

from pexpolicy_local_policy.script_process import Job, ScriptPool


async def test_a_process_that_is_killed_fails_one_run_and_is_replaced() -> None:
    async with ScriptPool(1, 5.0).running() as pool:
        assert (await pool.run(Job("a", {}))).text == "a"
        (child,) = pool._pool.children
        os.kill(child.pid, signal.SIGSTOP)
        late = await pool.run(Job("a", {}), 0.1)
        assert late.failure is not None
        assert late.failure.kind == "time"
        assert (await pool.run(Job("b", {}))).text == "b"
        assert (pool.runs, pool.failures, pool.restarts) == (3, 1, 1)
        (child,) = pool._pool.children
        os.kill(child.pid, signal.SIGKILL)
        assert [(await pool.run(Job("c", {}))).text for _ in range(2)][1] == "c"
