"""Driver ``file``."""

from pathlib import Path
from typing import Any

import pytest

from pexpolicy import Alias, SettingsError
from pexpolicy_sources.file import FileSettings, FileSource

ROOMS = {
    "rooms.csv": "Alias;Name;PIN\nClinic@Example.com;Clinic;0482\nboard;'=Board;\n",
    "rooms.toml": (
        '[[data.rooms]]\nalias = "Clinic@Example.com"\nname = "Clinic"\npin = "0482"\n'
        '[[data.rooms]]\nalias = "board"\nname = "=Board"\n'
    ),
    "rooms.json": (
        '{"data": {"rooms": [{"alias": "Clinic@Example.com", "name": "Clinic", "pin": "0482"},'
        ' {"alias": "board", "name": "=Board"}]}}'
    ),
}


def source(folder: Path, name: str, text: str | None = None, **keys: Any) -> FileSource:
    path = folder / name
    path.write_text(ROOMS[name] if text is None else text)
    if not name.endswith(".csv") and text is None:
        keys["rows"] = "data.rooms"
    return FileSource(FileSettings.model_validate({"path": str(path), **keys}))


@pytest.mark.parametrize("name", ROOMS)
async def test_a_row_is_found_in_each_format_whatever_the_case(tmp_path: Path, name: str) -> None:
    async with source(tmp_path, name) as made:
        lookup = made.lookup("alias = :alias", ["alias"])
        for alias in ("sip:clinic@example.com", "CLINIC@example.com"):
            found = await lookup.ask(alias=Alias(alias))
            assert [(row["name"], row["pin"]) for row in found.rows] == [("Clinic", "0482")]
        assert not (await lookup.ask(alias="nobody")).rows
        assert not (await lookup.ask(alias="")).rows
        async with made.snapshot("", list, every=60) as rooms:
            assert [row["name"] for row in rooms.value] == ["Clinic", "=Board"]


async def test_several_columns_are_compared(tmp_path: Path) -> None:
    text = "alias,protocol,name\na,sip,A SIP\na,h323,A H.323\n"
    async with source(tmp_path, "devices.csv", text) as made:
        lookup = made.lookup("alias = :alias AND protocol = :protocol", ["alias", "protocol"])
        found = await lookup.ask(alias="a", protocol="h323")
        assert [row["name"] for row in found.rows] == ["A H.323"]
        both = made.lookup("alias = :alias", ["alias"])
        assert len((await both.ask(alias="a")).rows) == 2


async def test_each_of_several_values_is_compared(tmp_path: Path) -> None:
    text = '[{"alias": ["a", "B", "b"], "tag": ["x", 1], "name": "AB"}, {"alias": [], "name": "C"}]'
    async with source(tmp_path, "rooms.json", text) as made:
        lookup = made.lookup("alias = :alias", ["alias"])
        both = made.lookup("alias = :alias and tag = :tag", ["alias", "tag"])
        for alias in ("a", "b"):
            assert [row["name"] for row in (await lookup.ask(alias=alias)).rows] == ["AB"]
            assert len((await both.ask(alias=alias, tag="1")).rows) == 1
        assert not (await lookup.ask(alias="")).rows
        assert not (await both.ask(alias="a", tag="y")).rows


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("alias", "is no query of a file"),
        ("alias = 'x'", "is no query of a file"),
        ("alias = :als", "has the parameter :als; there is: :alias"),
        ("alais = :alias", "has the column alais, .* did you mean 'alias'"),
    ],
)
def test_a_query_is_checked(tmp_path: Path, query: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        source(tmp_path, "rooms.csv").lookup(query, ["alias"])


@pytest.mark.parametrize(
    ("name", "content", "key"),
    [
        ("a.csv", "alias,alias\na,b\n", "path"),
        ("a.csv", 'alias\n"a\n', "path"),
        ("a.json", "{", "path"),
        ("a.toml", "a = ", "path"),
        ("a.json", "[1]", "rows"),
    ],
)
def test_a_file_with_an_error_is_named(tmp_path: Path, name: str, content: str, key: str) -> None:
    with pytest.raises(SettingsError) as raised:
        source(tmp_path, name, content)
    assert raised.value.problems[0].key == (key,)
    assert name in raised.value.problems[0].text


def test_a_missing_file_and_an_unknown_format_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.csv cannot be read"):
        FileSource(FileSettings.model_validate({"path": str(tmp_path / "none.csv")}))
    with pytest.raises(ValueError, match=r"rooms\.xlsx is none of \.csv, \.json, \.toml"):
        FileSettings.model_validate({"path": "rooms.xlsx"})
