"""The experiments, short."""

from pathlib import Path

import pytest

from lab.reloads.background import reload_with_background
from lab.reloads.breakage import offer
from lab.reloads.kills import kill
from lab.reloads.swaps import swap


async def test_no_call_is_lost_and_none_is_mixed(tmp_path: Path) -> None:
    swapped = await swap(tmp_path, 20)
    assert not swapped.wrong, (str(swapped), swapped.mixed[:5], swapped.load.failed[:5])
    assert len(swapped.load.calls) > 20


@pytest.mark.parametrize("first", ["stale", "required"])
async def test_no_decision_changes_while_the_api_of_refreshed_data_is_down(
    tmp_path: Path, first: str
) -> None:
    reloaded = await reload_with_background(tmp_path, 10, first, down=True, warm_up=2)
    assert not reloaded.wrong, str(reloaded)
    assert len(reloaded.load.calls) > 20
    # With "required" a reload is refused once the data is older than its interval.
    assert reloaded.done == 10 or first == "required"


def test_broken_files_change_nothing(tmp_path: Path) -> None:
    found = offer(tmp_path, 100, seed=20261126)
    assert not found.wrong
    assert found.refused > 50


async def test_workers_that_are_killed_are_replaced(tmp_path: Path) -> None:
    killed = await kill(tmp_path, 2, seed=1)
    assert not killed.wrong, str(killed)
