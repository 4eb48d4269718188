"""What spreadsheets do to aliases, PINs and dates: each message holds the way out of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

Build = Callable[..., Any]
Complaints = Callable[[dict[str, Any]], list[str]]
CSV = {"csv": "rooms.csv", "zone": "Europe/Oslo"}
ZIP, OLE = b"PK\x03\x04\x14\x00", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the configuration."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


MISTAKES: list[tuple[str, str]] = [
    ("alias,name\nx,X\n", "no column 'alias'; did you mean 'aliases'?"),
    ("aliases,room name\nx,X\n", "line 1: there is no column 'room_name'"),
    ("aliases,name,host pin\nx,X,1\n", "line 1: there is no column 'host_pin'; there are aliases"),
    ("aliases,name,valid_to\nx,X,1\n", "line 1: there is no column 'valid_to'"),
    ("aliases,name,zzz\nx,X,1\n", "there are aliases, name, pin"),
    ("Rooms of the company\naliases,name\nx,X\n", "line 1: there is no column"),
    ("<html>\n", "line 1: is one cell"),
    ("[[rooms]]\n", "line 1: there is no column"),
    ("aliases,name\n# old\nx,X\n", "line 2: is not a row"),
    ("aliases;name;pin\nx,X,482913\n", "line 2: is not a row"),
    ("aliases,name\nx,X, Oslo\n", "line 2: has 1 "),
    ('aliases,name\nx,"X\n', "a quote is never closed"),
    ("aliases,name\nx@example.com;2301,X\n", "write blanks between aliases"),
    ('aliases,name\n"x@example.com, 2301",X\n', "write blanks between aliases"),
    ("aliases,name\nx|2301,X\n", "write blanks between aliases"),
    ("aliases,name\nx / 2301,X\n", "write blanks between aliases"),
    ("aliases,name\nx,X\ny,Y\nsip:X,Z\n", "the alias x already, in rooms.csv line 2"),
    ("aliases,name,pin\nx,X,4.82913E+05\n", "a spreadsheet has rounded it"),
    ("aliases;name;pin\nx;X;4,82913E+05\n", "a spreadsheet has rounded it"),
    ("aliases,name,pin\nx,X,42\n", "removed its leading zeros, format the column as text"),
    ("aliases,name,pin\nx,X,482913.0\n", "write digits only"),
    ("aliases,name,pin\nx,X,482 913\n", "write digits only"),
    ('aliases,name,pin\nx,X,"482,913"\n', "write digits only"),
    ("aliases,name,pin\nx,X,#N/A\n", "line 2: pin: is a formula"),
    ("aliases,name,pin\nx,X,######\n", "its column was too narrow"),
    ("aliases,name,pin\nx,X,'482913\n", "without = and quotes"),
    ('aliases,name,pin\nx,X,"=""482913"""\n', "without = and quotes"),
    ("aliases,name,allow_guests\nx,X,X\n", "'X' must be true or false"),
    ("aliases,name,participant_limit\nx,X,30.0\n", "30.0 must be a whole number"),
    (
        "aliases,name,valid_until\nx,X,24.12.2030\n",
        "'24.12.2030' is not a day or a time; write 2030",
    ),
    ("aliases,name,valid_until\nx,X,12/24/2030\n", "is not a day or a time; write it as in 2026-"),
    ("aliases,name,valid_until\nx,X,47841\n", "made it a number: format the column as text, and"),
    ("aliases,name,valid_until\nx,X,47841\n", "write 2030-12-24"),
    ("aliases;nom\nx;X\n", "line 1: there is no column 'nom'"),
    ("aliases;name;code pin\nx;X;1\n", "line 1: there is no column 'code_pin'"),
    ("aliases;name\n+47 22 33 44 55;X\n", "without blanks, as in +4722334455"),
    ("aliases;name\n4,72234E+10;X\n", "'4,72234E+10' is a number that a spreadsheet has rounded"),
    ("aliases;name\nx;X\n;Y\n", "line 3: aliases: is missing"),
    ("aliases;name;max_callrate_in\nx;X;1.024.000,00\n", "; write 1024000, digits only"),
    ("aliases;name;participant_limit\nx;X;1 024\n", "; write 1024, digits only"),
    ("aliases;name\nx;X\nTotal\n", 'line 3".name: is required'),
    ("aliases;name\nx;X\nStand: 27.11.2030;\n", "delete the line if it is no room, such as a"),
    ("aliases,name\nx,X\nAliases,Name\ny,Y\n", "line 3: is the header again"),
    ("aliases,name\nx,X\n\ufeffaliases,name\ny,Y\n", "line 3: is the header again"),
    (
        "aliases,name\nMeet One,Meet One\nMeet Two,Meet Two\n",
        "'Meet Two' is 2 aliases, as blanks separate them: write one without blanks, such as meet-",
    ),
    *(
        (f"aliases,name,pin\nx,X,{pin}\n", says)
        for pin, says in (
            ("none", "; leave it empty for no PIN"),
            ("-", "; leave it empty for no PIN"),
            ("Dec-34", "; a spreadsheet has made it a date: format the column as text"),
            ("PIN: 482913", "; write the digits 0 to 9 alone"),
            ("48:29", "; write digits only"),
        )
    ),
    *(
        (f'aliases,name,valid_until\nx,X,"{day}"\n', f"is not a day or a time; {says}")
        for day, says in (
            ("never", "leave it out for no limit"),
            ("2030/12/24", "write 2030-12-24"),
            ("24.12.30", "write 2030-12-24"),
            ("24.12.2030 18:00", "write 2030-12-24T18:00"),
            ("2030-12-24 6:00 PM", "write 2030-12-24T18:00"),
            ("2030-12-24 12am", "write 2030-12-24T00:00"),
            ("47841,75", "a spreadsheet has made it a number"),
        )
    ),
    ("aliases,name,service_type\nx,X,Lecture\n", "did you mean 'lecture'?"),
    ("aliases,name,service_type\nx,X,VMR\n", "'VMR' is not one of conference"),
    ("aliases,name,service_type\nx,X,Virtual Auditorium\n", "is not one of conference"),
]


@pytest.mark.parametrize(("text", "says"), MISTAKES)
def test_a_mistake_of_a_spreadsheet_is_reported_with_the_way_out(
    complaints: Complaints, folder: Path, text: str, says: str
) -> None:
    (folder / "rooms.csv").write_text(text)
    found = complaints(CSV)
    assert any(says in one for one in found), found
    assert not any("482" in one or '="' in one for one in found), "no PIN is shown"


@pytest.mark.parametrize(
    ("alias", "says"),
    [
        ("4.72E+11", "is a number that a spreadsheet has rounded"),
        ("https://meet.example.com/?conference=x", "is a link: write the alias alone"),
        ("mailto:x@example.com", "is a link: write the alias alone"),
        ("<x@example.com>", "write the address alone"),
        ("\u201cx\u201d", "has quotes, and they are part of it"),
        ("x@example.com\u200b", "an invisible character, U+200B"),
        ("x@y@example.com", "has two @"),
        ("Total", "looks like the total of a table: delete the line"),
        ("Zwischensumme:", "looks like the total of a table: delete the line"),
        ("meet1/meet2", "if it is two aliases, write a blank between them"),
        ("*@example.com", "a pattern belongs in a rule"),
        ("*", "a pattern belongs in a rule"),
        ("x@*", "a pattern belongs in a rule"),
        ("^23\\d\\d$", "a pattern belongs in a rule"),
        ("Meet One", "'Meet One' is 2 aliases"),
        ("meet%40example.com", "is percent-encoded: write @ for %40"),
        ("meet\u20131@example.com", "has a dash, U+2013, that is no hyphen"),
        ("2301.0", "is a number with decimals: format the column as text"),
    ],
)
def test_an_alias_that_no_call_has_is_a_warning(
    build: Build, folder: Path, alias: str, says: str
) -> None:
    (folder / "rooms.csv").write_text(f"aliases,name\n{alias},X\n")
    (warning,) = build(CSV).warnings()
    assert says in warning
    found = build({"rooms": {alias: {"name": "X"}}}).warnings()[0]
    assert says in found or "has a blank: if it is several aliases, list each" in found


@pytest.mark.parametrize(
    "alias",
    [
        "x@example.com",
        "sip:x@example.com;transport=tls",
        "+4722334455",
        "+4722334455 2301",
        "board clinic",
        "Board board@example.com",
        "møterom",
        "*70",
        "x@[::1]",
    ],
)
def test_a_usual_alias_has_no_warning(build: Build, folder: Path, alias: str) -> None:
    (folder / "rooms.csv").write_text(f"aliases,name\n{alias},X\n")
    assert build(CSV).warnings() == []


@pytest.mark.parametrize("begin", [ZIP, OLE])
def test_a_workbook_is_recognised(complaints: Complaints, folder: Path, begin: bytes) -> None:
    (folder / "rooms.csv").write_bytes(begin + bytes(100))
    (said,) = complaints(CSV)
    assert "is not text" in said
    assert "save the file as CSV UTF-8" in said


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_the_line_of_excel_that_names_the_delimiter_is_no_row(
    build: Build, folder: Path, delimiter: str
) -> None:
    text = f"sep={delimiter}\nAliases;Name;Guest PIN;Allow Guests\nx;X;170356;1\n"
    (folder / "rooms.csv").write_text(text.replace(";", delimiter), encoding="utf-8-sig")
    room = build(CSV).ask("x").result
    assert (room["name"], room["guest_pin"], room["allow_guests"]) == ("X", "170356", True)


def test_a_file_that_is_not_there_is_searched_for(complaints: Complaints, folder: Path) -> None:
    (folder / "Rooms.csv").touch()
    (said,) = complaints(CSV)
    assert "No such file or directory; did you mean 'Rooms.csv'?" in said
    (said,) = complaints({"csv": "~/rooms.csv"})
    assert "~ has no meaning in a path" in said
    (said,) = complaints({"csv": "exports/rooms.csv"})
    assert "there is no folder exports" in said
    (said,) = complaints({"csv": "exports\\rooms.csv"})
    assert "has no meaning in a path" in said


@pytest.mark.parametrize(
    ("alias", "says"),
    [
        ("bord@example.com", "did you mean 'board@example.com'?"),
        ("board", "did you mean 'board@example.com'?"),
        ("sip:board@example.org", "did you mean 'board@example.com'?"),
        (
            "Meeting",
            "it is the name of a room: write one of its aliases, such as board@example.com",
        ),
        ("42", "did you mean '0042'?"),
        ("board@example.com 2301", "write one alias of the room, such as board@example.com"),
        ("clinic", ""),
    ],
)
def test_a_line_with_a_pin_of_no_room_names_the_alias_that_is_meant(
    complaints: Complaints, folder: Path, alias: str, says: str
) -> None:
    (folder / "pins.csv").write_text(f"alias,pin\n{alias},482913\n")
    rooms = {"board@example.com": {"name": "Meeting", "aliases": ["2301", "0042"]}}
    (said,) = complaints({"rooms": rooms, "pins": "pins.csv"})
    assert said.startswith("pins: pins.csv line 2: no room has the alias ")
    assert said.endswith(f"; {says}" if says else "clinic")
    assert "4829" not in said


def test_a_table_without_a_line_is_a_warning(build: Build, folder: Path) -> None:
    (folder / "rooms.csv").write_text("aliases,name\n")
    said = build({**CSV, "rooms": {"x": {"name": "X"}}}).warnings()
    assert said == ["csv: has no room below its header: is it the right file?"]


def test_a_room_of_a_file_has_a_list_of_aliases(complaints: Complaints, folder: Path) -> None:
    (folder / "rooms.toml").write_text("[[rooms]]\nalias = 'x'\nname = 'X'\n")
    (said,) = complaints({"files": ["rooms.toml"]})
    assert said.endswith("aliases: is missing: a room needs an alias; write aliases = [...]")


def test_a_time_that_no_room_has_is_reported(complaints: Complaints) -> None:
    (said,) = complaints({"rooms": {"x": {"name": "X", "expires": date(2030, 12, 24)}}})
    assert said.startswith("rooms.x.expires: there is no such time of a room")
