"""The experiments with the last good files, in short."""

import asyncio

import pytest

from lab import last_good
from lab.load_balancers.guards import installed


def test_a_kill_at_any_write_leaves_one_whole_state_or_the_other() -> None:
    assert last_good.kills(1).keys() == {"before", "after"}


def test_restarts_of_all_servers_with_broken_files_lose_no_call() -> None:
    if not installed("haproxy"):
        pytest.skip("haproxy is not installed")
    for name, tally in asyncio.run(last_good.broken(["row", "empty"])).items():
        assert tally.all_by_server, (name, tally)
