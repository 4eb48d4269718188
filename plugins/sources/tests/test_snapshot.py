"""Snapshots: rows converted once, and kept while the source fails."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from pexpolicy import DataUnavailableError
from pexpolicy_sources import Row, Snapshot, SourceUnavailableError
from pexpolicy_sources.data_source import Answer
from pexpolicy_sources.file import FileSettings, FileSource
from pexpolicy_sources.http import HttpSettings, HttpSource


class Names:
    """Converts rows to names, and counts how often and where."""

    def __init__(self) -> None:
        self.threads: list[str] = []

    def __call__(self, rows: list[Row]) -> list[str]:
        self.threads.append(threading.current_thread().name)
        return [row["name"] for row in rows]


def source(folder: Path) -> FileSource:
    (folder / "rooms.csv").write_text("alias,name\na,A\n")
    return FileSource(FileSettings.model_validate({"path": str(folder / "rooms.csv")}))


async def test_rows_are_converted_in_a_thread_if_they_have_changed(tmp_path: Path) -> None:
    convert = Names()
    made = source(tmp_path)
    async with made, made.snapshot("", convert, every=60) as names:
        assert [names.value, names.value] == [["A"], ["A"]]
        await names.refresh()
        assert names.value == ["A"]
        assert len(convert.threads) == 1
        made.fetch_all = lambda *_: _answer([{"name": "B"}])  # type: ignore[method-assign]
        await names.refresh()
        assert names.value == ["B"]
    assert len(convert.threads) == 2
    assert threading.main_thread().name not in convert.threads


async def test_rows_of_the_file_are_converted_before_the_first_call(tmp_path: Path) -> None:
    def of(convert: Names) -> Snapshot[list[str]]:
        return source(tmp_path).snapshot("", convert, every=60, file=tmp_path / "kept.json")

    async with of(Names()):
        pass
    convert = Names()
    async with of(convert) as names:
        assert len(convert.threads) == 1
        assert names.value == ["A"]
    assert threading.main_thread().name not in convert.threads


async def test_rows_that_are_refused_leave_the_last_ones(tmp_path: Path) -> None:
    convert = Names()
    made = source(tmp_path)
    async with made, made.snapshot("", convert, every=60) as names:
        made.fetch_all = lambda *_: _answer([{"nom": "B"}])  # type: ignore[method-assign]
        with pytest.raises(KeyError):
            await names.refresh()
        assert names.value == ["A"]


async def test_rows_that_were_kept_and_are_refused_are_fetched_again(tmp_path: Path) -> None:
    file, kept = tmp_path / "people.json", tmp_path / "kept.json"

    def of(group: str) -> Snapshot[list[Row]]:
        def convert(rows: list[Row]) -> list[Row]:
            if any(row["group"] != group for row in rows):
                raise ValueError("no row is right")
            return rows

        made = HttpSource(HttpSettings.model_validate({"url": "https://h"}))
        made.fetch_all = lambda *_: fetch()  # type: ignore[method-assign]
        return made.snapshot("/rows", convert, every=60, file=kept, first="stale")

    async def fetch() -> Answer:
        return Answer(json.loads(file.read_text()))

    file.write_text('[{"group": "old"}]')
    async with of("old"):
        pass
    with pytest.raises(ValueError, match="no row is right"):
        await of("new").__aenter__()
    file.write_text('[{"group": "new"}]')
    async with of("new") as rows:
        assert rows.value == [{"group": "new"}]


async def test_rows_are_kept_for_the_same_settings(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"

    def of(**keys: Any) -> Snapshot[list[Row]]:
        made = HttpSource(HttpSettings.model_validate({"url": "https://h", **keys}))
        made.fetch_all = lambda *_: fetch()  # type: ignore[method-assign]
        return made.snapshot("/rows", list, every=60, file=kept, first="stale")

    async def fetch() -> Answer:
        if is_down:
            raise SourceUnavailableError("down")
        return Answer([{"name": "A"}])

    is_down = False
    async with of():
        is_down = True
    async with of() as rows:
        assert rows.value == [{"name": "A"}]
    for other in ({"url": "https://other"}, {"rows": "data"}):
        async with of(**other) as rows:
            with pytest.raises(DataUnavailableError):
                _ = rows.value
    before, same = source(tmp_path), source(tmp_path)
    assert before._key("") == same._key("") != before._key("name = :name")
    (tmp_path / "rooms.csv").write_text("alias,name\na,B\n")
    path = str(tmp_path / "rooms.csv")
    assert before._key("") != FileSource(FileSettings.model_validate({"path": path}))._key("")


async def _answer(rows: list[Row]) -> Answer:
    return Answer(rows)
