"""The experiments with meetings, in a short version."""

from pathlib import Path

import pytest

from lab import meetings


@pytest.mark.parametrize("engine", meetings.ENGINES)
async def test_no_meeting_is_lost_or_made_twice_by_kills(tmp_path: Path, engine: str) -> None:
    found = await meetings.kill(tmp_path, 4, engine, seed=1)
    assert not found.wrong


async def test_replies_to_generated_requests_are_as_described(tmp_path: Path) -> None:
    found = await meetings.generate(tmp_path, 30, seed=1)
    assert not found.wrong
