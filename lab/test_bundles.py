"""The experiments on bundles, in a short version."""

from pathlib import Path

from lab import bundles


async def test_a_roll_out_under_load(tmp_path: Path) -> None:
    found = await bundles.roll_out(tmp_path, servers=4, rate=40.0, every=8.0, rounds=1)
    assert not found.wrong


async def test_kills_while_a_bundle_is_fetched(tmp_path: Path) -> None:
    found = await bundles.kill(tmp_path, kills=10, seed=1)
    assert not found.wrong
