"""The kills while events are counted, in a short version."""

from pathlib import Path

import pytest

from lab import live


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_kill_loses_no_event(tmp_path: Path, engine: str) -> None:
    found = await live.kill(tmp_path, 3, 7, engine=engine)
    assert found.wrong == []
