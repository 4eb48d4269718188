"""Processes of a pool that cannot start."""

import asyncio
from typing import Any

import pytest

from pexpolicy_local_policy import script_process
from pexpolicy_local_policy.script_process import Failure, Rendering, ScriptPool


async def test_a_process_that_starts_after_another_has_failed_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    second = asyncio.Event()
    ended: list[int] = []

    class Process:
        started = 0

        def __init__(self, number: int) -> None:
            self.number = number

        @classmethod
        async def start(cls) -> "Process":
            cls.started += 1
            made = cls(cls.started)
            if made.number > 1:
                await second.wait()
                for _ in range(10):
                    await asyncio.sleep(0)  # after the pool knows of the failure
            return made

        async def run(self, _job: Any, _seconds: float) -> Rendering:
            return Rendering("", failure=Failure("process", "broken") if self.number == 1 else None)

        async def end(self) -> None:
            ended.append(self.number)
            second.set()

    monkeypatch.setattr(script_process, "ScriptProcess", Process)
    with pytest.raises(RuntimeError, match="does not start: broken"):
        async with ScriptPool(2, 1.0).running():
            pass
    assert ended == [1, 2]
