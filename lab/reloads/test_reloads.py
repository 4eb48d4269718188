"""The experiments, short."""

from pathlib import Path

import pytest

from lab.reloads.background import reload_with_background
from lab.reloads.breakage import offer
from lab.reloads.experiments import kill, reload_large, swap
from lab.report import Experiment

SHORT: dict[str, Experiment] = {
    "no call is lost and none is mixed": lambda folder: swap(folder, 20),
    "stale data": lambda folder: reload_with_background(folder, 10, "stale", down=True, warm_up=2),
    "required data": lambda folder: reload_with_background(
        folder, 10, "required", down=True, warm_up=2
    ),
    "many rooms": lambda folder: reload_large(folder, 1000, 1),
    "broken files change nothing": lambda folder: offer(folder, 100, seed=20261126),
    "killed workers are replaced": lambda folder: kill(folder, 2, seed=1),
}


@pytest.mark.parametrize("name", SHORT)
async def test_nothing_goes_wrong(name: str, tmp_path: Path) -> None:
    finding = await SHORT[name](tmp_path)
    assert finding.wrong == [], str(finding)
    assert finding.answered > 20
