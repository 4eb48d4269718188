"""Short versions of the experiments."""

import os
import shutil
from pathlib import Path

import pytest

from lab.audit import clock, experiments, flood, forged
from lab.audit.server import Finding
from tests.support import programs

needs_mounts = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")


def held(finding: Finding, least: int) -> None:
    assert finding.wrong == []
    assert finding.answered >= least


async def test_a_kill_under_load(tmp_path: Path) -> None:
    held(await experiments.killed(tmp_path, 1, 200), 200)


async def test_two_servers_write_one_file(tmp_path: Path) -> None:
    held(await experiments.shared(tmp_path, 1, 100), 100)


@needs_mounts
async def test_a_full_disk(tmp_path: Path) -> None:
    try:
        held(await experiments.disk_full(tmp_path, 1, 0.5), 50)
    except PermissionError as error:
        pytest.skip(str(error))


async def test_a_deletion_under_load(tmp_path: Path) -> None:
    held(await experiments.deleted(tmp_path, 1), 50)


async def test_rotations_under_load(tmp_path: Path) -> None:
    held(await experiments.rotated(tmp_path, 20, 0.01), 50)


@pytest.mark.skipif(shutil.which("logrotate") is None, reason="there is no logrotate here")
async def test_logrotate_under_load(tmp_path: Path) -> None:
    held(await experiments.logrotate(tmp_path, 2), 20)


async def test_a_reader_that_stops(tmp_path: Path) -> None:
    held(await experiments.stalled(tmp_path, 0.5, 0.002), 100)


async def test_a_flood_of_refusals(tmp_path: Path) -> None:
    held(await flood.flooded(tmp_path, 2.0, 4), 20)


@needs_mounts
async def test_a_full_disk_and_a_kill(tmp_path: Path) -> None:
    try:
        held(await experiments.killed_with_spool(tmp_path, 2, 50), 200)
    except PermissionError as error:
        pytest.skip(str(error))


async def test_jumps_of_the_clock(tmp_path: Path) -> None:
    programs.require("gcc")
    finding = await clock.jumped(tmp_path, (3600, -7200, 7305 * clock.DAY_S), 50)
    held(finding, 200)


async def test_forged_lines(tmp_path: Path) -> None:
    held(await forged.forged(tmp_path), 500)
