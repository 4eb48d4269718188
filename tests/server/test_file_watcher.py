"""Which looks at a file count as a change."""

import asyncio
from pathlib import Path

import pytest

from pexpolicy.config.files import FileVersion, Look, known_at, stat_files
from pexpolicy.server import reload_triggers
from pexpolicy.server.process import ShutdownSignal
from pexpolicy.server.reload_triggers import POLL_INTERVAL_S, ReloadResult, ReloadTriggers
from tests.support.fake_plugins import Log
from tests.support.virtual_time import virtual

FILE = Path("rules.csv")


@pytest.mark.parametrize(
    ("versions", "read"),
    [
        ([0, 0, 0], []),
        ([1, 1, 1, 1], [1]),
        ([1, 2, 3, 3, 3], [3]),
        ([None, None, None], [None]),
        ([None, 1, 1, 1], [1]),
        ([1, 0, 0], []),
        ([1, 1, 1, 2, 2, 2], [1, 2]),
        ([1, 1, 1, 0, 0, 0], [1, 0]),
    ],
)
def test_a_change_that_settles_is_read_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    versions: list[int | None],
    read: list[int | None],
) -> None:
    present: int | None = 0
    found: list[int | None] = []

    def seen(_: object) -> Look:
        return {FILE: None if present is None else FileVersion(1, present, 0, 0, 0)}

    async def reload(*_: str) -> ReloadResult:
        found.append(present)
        return ReloadResult("hash", files=(str(FILE),))

    @virtual
    async def run() -> None:
        nonlocal present
        triggers = ReloadTriggers(
            tmp_path, reload, ShutdownSignal(), Log(), lambda _: None, uses_threads=False
        )
        async with triggers.active([FILE], 0.0):
            await asyncio.sleep(POLL_INTERVAL_S / 2)
            for version in versions:
                present = version
                await asyncio.sleep(POLL_INTERVAL_S)

    monkeypatch.setattr(reload_triggers, "stat_files", seen)
    monkeypatch.setattr(reload_triggers, "known_at", lambda look, _: look)
    run()
    assert found == read


def test_a_new_file_that_is_younger_than_the_reading_counts_as_a_change(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("a")
    changed = path.stat().st_ctime
    for read_at, expected in ((changed - 1, True), (changed + 1, False)):
        look = stat_files([path])
        assert (known_at(look, read_at) != look) is expected
