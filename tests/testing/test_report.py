"""The writers of results: what each of them shows of the same rows and parts."""

import io
from collections import Counter
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from pexpolicy.models.difference import add_change, changed_fields, describe_changes
from pexpolicy.testing import report
from pexpolicy.testing.coverage import CoverageItem
from pexpolicy.testing.report import TITLE, Line, Row, Table

ROWS = [
    Row("a", "one", ok=True, text="decided", seconds=0.25),
    Row("a", "t\x1bwo <b>", ok=False, text="action", lines=["got\x1b more"], kind="k"),
    Row("b", "three", ok=True, lines=["a remark"], facts={"ms": 3}),
]
PARTS: list[report.Part] = [
    Line("Head <i>", TITLE),
    Line("a line of several words", indent=2),
    Table(("name", "calls"), [(("x\x1b<script>", "warning"), "1,000")], ("calls",)),
]


def test_json_and_junit_have_every_row() -> None:
    found = report.as_json(ROWS, 1.5)
    assert (found["passed"], found["failed"], found["seconds"]) == (2, 1, 1.5)
    assert found["cases"][2] == {"file": "b", "name": "three", "passed": True, "ms": 3}
    root = ET.fromstring(report.as_junit(ROWS, "it"))  # noqa: S314 - our own
    assert (root.get("name"), root.get("tests"), root.get("failures")) == ("it", "3", "1")
    assert [(s.get("name"), s.get("tests"), s.get("time")) for s in root] == [
        ("a", "2", "0.250"),
        ("b", "1", "0.000"),
    ]
    assert [case.get("classname") for case in root.iter("testcase")] == ["a", "k", "b"]
    assert root.findtext(".//failure") == "got\ufffd more"
    assert root.findtext(".//system-out") == "a remark"


def test_text_is_shown_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    report.show(ROWS, 0.0123, PARTS)
    shown = capsys.readouterr().out
    assert "  FAIL  t\ufffdwo <b>\n        got\ufffd more\n" in shown
    assert "2 passed, 1 failed in 12 ms" in shown
    assert "a remark" not in shown
    assert "\x1b" not in shown


def test_parts_fit_a_terminal_and_a_page() -> None:
    out = Console(file=io.StringIO(), width=12, theme=report.THEME)
    report.print_parts(PARTS, out)
    shown = out.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, shown.splitlines())) <= 12
    assert "\n  a line of\n  several\n  words\n" in shown
    page = report.as_html("T", PARTS)
    assert "Head &lt;i&gt;" in page
    assert "x\ufffd&lt;script&gt;" in page
    assert "\x1b" not in page


def test_a_coverage_names_what_was_never_used() -> None:
    items = [CoverageItem("p", "branch", f"{n:03}") for n in range(103)]
    names = ", ".join(f"{n:03}" for n in range(103) if n != 5)
    coverage: Any = SimpleNamespace(items=items, used=Counter({items[5]: 2}))
    assert [part[0] for part in report.coverage_parts(coverage)] == [
        "p: 1 of 103 used (branch)",
        f"never used: {names}",
    ]


def test_changes_tell_both_sides() -> None:
    before, after = {"a": 1, "b": True, "c": "x"}, {"b": 1, "c": "x", "d": [2]}
    changes: dict[str, dict[str, object]] = {}
    for name, pair in changed_fields(before, after).items():
        add_change(changes, name, *pair)
    assert changes == {"a": {"from": 1}, "b": {"from": True, "to": 1}, "d": {"to": [2]}}
    told = "a from 1 to nothing; b from true to 1; d from nothing to [2]"
    assert describe_changes(changes) == told
