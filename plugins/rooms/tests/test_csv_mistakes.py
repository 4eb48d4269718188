"""Mistakes in files of rooms and PINs: each is refused with its line."""

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
    monkeypatch.chdir(tmp_path)
    return tmp_path


PINS = (
    *("4.82913E+05", "42", "482913.0", "482-913", "######", "'482913", "none", "-", "Dec-34"),
    *("PIN:482913", "48:29", "482 913"),
)
DAYS = ["24.12.2030", "12/24/2030", "47841", "47841,75", "never", "2030/12/24", "24.12.30"]
MISTAKES = [
    *(("aliases,name,pin\nx,X,{}\n", pin, 'line 2".pin: ') for pin in PINS),
    *(('aliases,name,pin\nx,X,"{}"\n', pin, 'line 2".pin: ') for pin in ("482,913", '=""482913""')),
    *(
        ('aliases,name,valid_until\nx,X,"{}"\n', day, 'line 2".valid_until: ')
        for day in (*DAYS, "24.12.2030 18:00", "2030-12-24 6:00 PM")
    ),
    *(
        ('aliases,name\n"{}",X\n', aliases, 'line 2".aliases: write blanks between aliases')
        for aliases in (
            *(
                "x@example.com;2301",
                "x@example.com, 2301",
                "x|2301",
                "x / 2301",
                "x & y",
                "4,72E+10",
            ),
            "+47 22 33 44 55",
        )
    ),
    *(
        ("aliases,name,{}\nx,X,1\n", column, "line 1: there is no column ")
        for column in ("host pin", "valid_to", "zzz", "code pin")
    ),
    *(
        ("aliases,name,service_type\nx,X,{}\n", kind, 'line 2".service_type: ')
        for kind in ("Lecture", "VMR", "Virtual Auditorium")
    ),
    ("alias,name\nx,X\n", "", "no column 'alias'; did you mean 'aliases'?"),
    ("aliases;nom\nx;X\n", "", "line 1: there is no column 'nom'"),
    ("Rooms of the company\naliases,name\nx,X\n", "", "line 1: there is no column"),
    ("<html>\n", "", "line 1: there is no column"),
    ("[[rooms]]\n", "", "line 1: there is no column"),
    ("aliases,name\n# old\nx,X\n", "", "line 2: is not a row"),
    ("aliases;name;pin\nx,X,482913\n", "", "line 2: is not a row"),
    ("aliases,name\nx,X, Oslo\n", "", "line 2: is not a row"),
    ("aliases;name;pin\na;Raum; gross;\n", "", "line 2: is not a row"),
    ('aliases,name\nx,"X\n', "", "a quote is never closed"),
    ("aliases,name\nx,X\ny,Y\nsip:X,Z\n", "", "the alias x already, in rooms.csv line 2"),
    ("aliases,name\nMeet One,A\nMeet Two,B\n", "", "the alias meet already, in rooms.csv line 2"),
    ("aliases,name,pin\nx,X,#N/A\n", "", 'line 2".pin: '),
    ("aliases,name,allow_guests\nx,X,X\n", "", "'X' must be true or false"),
    ("aliases,name,participant_limit\nx,X,30.0\n", "", "30.0 must be a whole number"),
    ("aliases;name;max_callrate_in\nx;X;1.024.000,00\n", "", 'line 2".max_callrate_in: '),
    ("aliases;name\nx;X\n;Y\n", "", "line 3: aliases: is missing"),
    ("aliases;name\nx;X\nTotal\n", "", 'line 3".name: is required'),
]


@pytest.mark.parametrize(("text", "cell", "says"), MISTAKES)
def test_a_mistake_is_refused_with_its_line(
    complaints: Complaints, folder: Path, text: str, cell: str, says: str
) -> None:
    (folder / "rooms.csv").write_text(text.format(cell) if cell else text)
    found = complaints(CSV)
    assert any(says in one for one in found), found
    assert not any("482" in one or '="' in one for one in found), "no PIN is shown"


ODD = (
    *("4.72E+11", "https://meet.example.com/?conference=x", "mailto:x@example.com", "2301.0"),
    *("<x@example.com>", "\u201cx\u201d", "x@example.com\u200b", "x@y@example.com", "meet1/meet2"),
    *("*@example.com", "*", "x@*", "^23\\d\\d$", "meet%40example.com", "meet\u20131@example.com"),
)
USUAL = (
    *("x@example.com", "sip:x@example.com;transport=tls", "+4722334455", "+4722334455 2301"),
    *("board clinic", "Board board@example.com", "møterom", "*70", "x@[::1]"),
)


@pytest.mark.parametrize("alias", [*ODD, *USUAL])
def test_an_alias_that_no_call_has_is_a_warning(build: Build, folder: Path, alias: str) -> None:
    (folder / "rooms.csv").write_text(f"aliases,name\n{alias},X\n")
    warnings = build(CSV).warnings()
    assert len(warnings) == (alias in ODD)
    assert all('line 2".aliases: ' in warning for warning in warnings)
    if alias in ODD:
        assert build({"rooms": {alias: {"name": "X"}}}).warnings()


@pytest.mark.parametrize("begin", [ZIP, OLE])
def test_a_workbook_is_recognised(complaints: Complaints, folder: Path, begin: bytes) -> None:
    (folder / "rooms.csv").write_bytes(begin + bytes(100))
    (said,) = complaints(CSV)
    assert "a workbook" in said
    assert "CSV UTF-8" in said


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_the_line_of_excel_that_names_the_delimiter_is_no_row(
    build: Build, folder: Path, delimiter: str
) -> None:
    text = f"sep={delimiter}\nAliases;Name;Guest PIN;Allow Guests\nx;X;170356;1\n"
    (folder / "rooms.csv").write_text(text.replace(";", delimiter), encoding="utf-8-sig")
    room = build(CSV).ask("x").result
    assert (room["name"], room["guest_pin"], room["allow_guests"]) == ("X", "170356", True)


def test_a_path_that_names_no_file_is_explained(complaints: Complaints, folder: Path) -> None:
    (said,) = complaints({"csv": "~/rooms.csv"})
    assert "~ has no meaning in a path" in said
    (said,) = complaints({"csv": "exports/rooms.csv"})
    assert "there is no folder exports" in said
    (said,) = complaints({"csv": "exports\\rooms.csv"})
    assert "has no meaning in a path" in said


@pytest.mark.parametrize("alias", ["bord@example.com", "board@example.com 2301", "clinic"])
def test_a_line_with_a_pin_of_no_room_is_refused(
    complaints: Complaints, folder: Path, alias: str
) -> None:
    (folder / "pins.csv").write_text(f"alias,pin\n{alias},482913\n")
    rooms = {"board@example.com": {"name": "Meeting", "aliases": ["2301", "0042"]}}
    (said,) = complaints({"rooms": rooms, "pins": "pins.csv"})
    assert said.startswith("pins: pins.csv line 2: no room has the alias ")
    assert ("did you mean 'board@example.com'?" in said) == (alias == "bord@example.com")
    assert "4829" not in said


def test_a_table_without_a_line_is_a_warning(build: Build, folder: Path) -> None:
    (folder / "rooms.csv").write_text("aliases,name\n")
    said = build({**CSV, "rooms": {"x": {"name": "X"}}}).warnings()
    assert said == ["csv: has no room below its header: is it the right file?"]


def test_a_time_that_no_room_has_is_reported(complaints: Complaints) -> None:
    (said,) = complaints({"rooms": {"x": {"name": "X", "expires": date(2030, 12, 24)}}})
    assert said.startswith("rooms.x.expires: there is no such time of a room")
