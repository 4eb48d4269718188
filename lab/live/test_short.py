"""The experiments with events and limits, in short."""

from functools import partial
from pathlib import Path

import pytest

from lab.live.flood import costs, flooded
from lab.live.kills import kill
from lab.live.outage import outage
from lab.report import Experiment

SHORT: dict[str, Experiment] = {
    "kills with SQLite": partial(kill, kills=3, seed=7, engine="sqlite"),
    "kills with PostgreSQL": partial(kill, kills=3, seed=7, engine="postgresql"),
    "an outage": partial(outage, seconds=2.0, rounds=1),
    "many events": partial(flooded, events=2000, rounds=1, rate=50, seconds=2),
    "costs": partial(costs, calls=50, engine="sqlite", tenants=(1, 100)),
}


@pytest.mark.parametrize("name", SHORT)
async def test_nothing_goes_wrong(name: str, tmp_path: Path) -> None:
    found = await SHORT[name](tmp_path)
    assert found.wrong == []
