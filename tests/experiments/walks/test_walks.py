"""A call, a reload, a plugin and ``explain`` pass through few parts of the package."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.experiments.walks.walks import MAX_PLACES, WALKS


@pytest.mark.parametrize("name", WALKS)
def test_a_walk_passes_through_few_places(name: str, tmp_path: Path) -> None:
    places = asyncio.run(WALKS[name](tmp_path)).places
    assert len(places) <= MAX_PLACES[name], places
