"""Tables in CSV files: read with every fault at once, written so that they read back."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, SecretStr

from pexpolicy.config.csv_tables import TableError, TableRow, parse_table, read_table, write_table
from pexpolicy.config.problems import Problem

COLUMNS = ("subnet", "floor", "kind", "open", "phones", "note", "ms-subnet")
NO_NUMBER = "should be a whole number, unable to parse string as an integer"


class Place(TableRow):
    subnet: str
    floor: int = 0
    kind: Literal["office", "lab"] = "office"
    open: bool = True
    phones: tuple[str, ...] = ()
    note: str | None = None
    ms_subnet: str = Field("", alias="ms-subnet")


def faults(text: str, model: type[TableRow] = Place) -> list[str]:
    with pytest.raises(TableError) as refused:
        list(parse_table(text, model, "places.csv"))
    return [str(fault) for fault in refused.value.problems]


def places(text: str) -> list[Place]:
    return [row.values for row in parse_table(text, Place, "places.csv")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_table_is_read_as_a_spreadsheet_saves_it(
    tmp_path: Path, mark: str, delimiter: str, end: str
) -> None:
    lines = ["Floor,SUBNET, open", "3,a,no", "", ",b,", ",,", '"4","c d",true']
    path = tmp_path / "places.csv"
    path.write_bytes((mark + end.join(lines).replace(",", delimiter)).encode())
    rows = list(read_table(path, Place))
    assert [row.values for row in rows] == [
        Place(subnet="a", floor=3, open=False),
        Place(subnet="b"),
        Place(subnet="c d", floor=4),
    ]
    assert [row.line for row in rows] == [2, 4, 6]


def test_quoted_cells_hold_delimiters_quotes_and_line_ends() -> None:
    text = 'subnet,note,ms-subnet\n"a,b;c","says ""x""\nand more",m\nlast,,\n'
    first, last = parse_table(text, Place, "places.csv")
    assert first.values.subnet == "a,b;c"
    assert first.values.note == 'says "x"\nand more'
    assert first.values.ms_subnet == "m"
    assert (first.line, last.line) == (2, 4)


def test_a_list_takes_several_values() -> None:
    assert places("subnet,phones\na,1 | 2|3\n")[0].phones == ("1", "2", "3")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "subnet,floor,kind\n,1,\na,high,\nb,1,offise\nc,1,lab,x,y\nd,2,\n",
            ["line 2: subnet: ", "line 3: floor: ", "line 4: kind: ", "line 5: "],
        ),
        ("subnit,,floor,Floor,zzz\na\n", ["line 1: "] * 5),
        ("<table><tr><td>subnet</td></tr></table>\n", ["line 1: there is no column: "]),
        ("subnet\tfloor\na\t1\n", ["line 1: there is no column: name them in the first line"]),
        ('[{"subnet":"a"}]\n', ["line 1: "]),
        ("subnet,floor\na,1\n# b\n", ["line 3: "]),
        ("subnet,floor\na,1\nb;2\n", ["line 3: "]),
        ("subnet,floor\na,1\nSubnet,Floor\n", ["line 3: "]),
        *((empty, ["line 1: the column subnet"]) for empty in ("", "\n\n", " \n", ",,\n")),
    ],
)
def test_every_bad_line_is_named_at_once(text: str, expected: list[str]) -> None:
    found = faults(text)
    assert len(found) == len(expected)
    for fault, begin in zip(found, expected, strict=True):
        assert fault.startswith(f"places.csv {begin}")


def test_a_quote_that_is_never_closed_is_named_by_the_line_where_it_opens() -> None:
    (said,) = faults('subnet,note\na,b\nc,"d\ne,f\n')
    assert said.startswith("places.csv line 3: cannot be read")


def test_a_header_that_cannot_be_read_is_a_fault() -> None:
    (said,) = faults('"subnet\na\n')
    assert said.startswith("places.csv line 1: cannot be read")


def test_a_secret_is_not_shown() -> None:
    class Door(TableRow):
        token: SecretStr = Field(min_length=8)

    assert "hush" not in "".join(faults("token\nhush\n", Door))


def test_a_time_that_is_too_long_is_a_fault_of_its_line() -> None:
    class Limited(TableRow):
        timeout: float = Field(le=10)

    with pytest.raises(TableError, match="line 2: timeout: should be less than or equal to 10"):
        list(parse_table("timeout\n5000\n", Limited, "limits.csv"))


def test_a_file_that_is_not_utf8_is_named_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "places.csv"
    path.write_bytes("subnet\na\nKöln\n".encode("cp1252"))
    with pytest.raises(TableError, match="line 3: is not UTF-8 text"):
        list(read_table(path, Place))


def test_a_file_that_is_not_there_is_a_problem_of_the_setting(tmp_path: Path) -> None:
    with pytest.raises(TableError) as refused:
        read_table(tmp_path / "none.csv", Place)
    (problem,) = refused.value.under(("csv",))
    assert problem == Problem(
        ("csv",), f"{tmp_path / 'none.csv'} cannot be read: No such file or directory"
    )


def test_a_row_can_be_blamed_for_more_than_its_cells() -> None:
    (row,) = parse_table("subnet\na\n", Place, "places.csv")
    assert str(row.fault("is there twice")) == "places.csv line 2: is there twice"


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
rows = st.builds(
    Place,
    subnet=texts,
    floor=st.integers(),
    kind=st.sampled_from(["office", "lab"]),
    open=st.booleans(),
    phones=st.lists(texts, max_size=3).map(tuple),
    note=st.none() | texts,
)


@given(st.lists(rows, max_size=5))
def test_what_is_written_reads_back_or_is_refused(written: list[Place]) -> None:
    try:
        text = write_table(written, Place)
    except ValueError:
        values = [v for row in written for v in (row.subnet, row.note or "x", *row.phones)]
        assert any(value != value.strip() or {*"|\r"} & {*value} for value in values)
    else:
        assert places(text) == written


@pytest.mark.parametrize(
    ("lossy", "why"),
    [
        (Place(subnet=""), "subnet: is missing"),
        (Place(subnet=" a"), "subnet of ' a': it would be read back differently"),
        (Place(subnet="a", phones=("1|2",)), "phones of 'a'"),
    ],
)
def test_a_row_that_would_not_read_back_is_refused(lossy: Place, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        write_table([lossy], Place)


def test_the_header_alone_reads_back_as_no_rows() -> None:
    assert places(write_table([], Place)) == []


@given(st.text(max_size=200) | st.text('subnet,;"\n\r |0', max_size=60))
def test_any_text_is_a_table_or_has_faults_and_nothing_else(text: str) -> None:
    with suppress(TableError):
        assert all(row.values.subnet for row in parse_table(text, Place, "places.csv"))
