"""Short versions of the experiments."""

from pathlib import Path

import pytest

from lab.audit import clock, experiments, flood, forged, ship
from lab.report import Experiment

SHORT: dict[str, tuple[Experiment, int]] = {
    "killed": (lambda folder: experiments.killed(folder, 1, 200), 200),
    "shared": (lambda folder: experiments.shared(folder, 1, 100), 100),
    "disk full": (lambda folder: experiments.disk_full(folder, 1, 0.5), 10),
    "deleted": (lambda folder: experiments.deleted(folder, 1), 10),
    "rotated": (lambda folder: experiments.rotated(folder, 20, 0.01), 10),
    "logrotate": (lambda folder: experiments.logrotate(folder, 2), 5),
    "stalled": (lambda folder: experiments.stalled(folder, 0.5, 0.002), 10),
    "flooded": (lambda folder: flood.flooded(folder, 2.0, 4), 5),
    "killed with spool": (lambda folder: experiments.killed_with_spool(folder, 2, 50), 200),
    "clock": (lambda folder: clock.jumped(folder, (3600, -7200, 7305 * clock.DAY_S), 50), 200),
    "shipped": (lambda folder: ship.crashed(folder, 3, 100), 300),
    "database frozen": (lambda folder: ship.frozen(folder, 3.0), 500),
    "forged": (forged.forged, 500),
}
"""Each with the least number of answers."""


@pytest.mark.parametrize("name", SHORT)
async def test_no_line_is_lost(name: str, tmp_path: Path) -> None:
    experiment, least = SHORT[name]
    try:
        finding = await experiment(tmp_path)
    except PermissionError as error:  # of mounting a disk, or a program that is not there
        pytest.skip(str(error))
    assert finding.wrong == []
    assert finding.answered >= least
