"""Which looks at a file count as a change."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.config.files import FileVersion, Look, known_at, stat_files
from pexpolicy.server.reload_triggers import FileWatcher

FILE = Path("rules.csv")


def seen_as(version: int | None) -> Look:
    """A look at the file; ``None`` where it is not there."""
    return {FILE: None if version is None else FileVersion(1, version, 0, 0, 0)}


VERSIONS = st.lists(st.none() | st.integers(0, 3), max_size=30)


@given(st.integers(0, 3), VERSIONS)
def test_a_change_that_settles_is_reported_once(first: int, versions: list[int | None]) -> None:
    changes = FileWatcher(seen_as(first))
    told: list[int | None] = [first]
    for before, version in zip([object(), *versions], versions, strict=False):
        if changes.is_changed(seen_as(version)):
            assert version == before, "it was still being written"
            assert version != told[-1], "it was told before"
            told.append(version)
    last = versions[-1] if versions else first
    changes.is_changed(seen_as(last))
    changes.is_changed(seen_as(last))
    assert not changes.is_changed(seen_as(last))


@given(VERSIONS, st.integers(4, 6))
def test_a_new_version_at_rest_is_never_missed(versions: list[int | None], last: int) -> None:
    changes = FileWatcher(seen_as(0))
    for version in versions:
        changes.is_changed(seen_as(version))
    assert [changes.is_changed(seen_as(last)) for _ in range(3)] == [False, True, False]


def test_a_new_file_that_is_younger_than_the_reading_counts_as_a_change(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("a")
    changed = path.stat().st_ctime
    for read_at, expected in ((changed - 1, True), (changed + 1, False)):
        changes = FileWatcher(known_at(stat_files([path]), read_at))
        assert any(changes.is_changed(stat_files([path])) for _ in range(3)) is expected
