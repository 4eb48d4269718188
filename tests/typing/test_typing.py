"""Type checkers: they accept what the API promises, and find the mistakes marked in the snippets.

A line of a snippet with ``# error: WORD`` needs an error whose text has one of the words.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.paths import ROOT

SNIPPETS = sorted((Path(__file__).parent / "snippets").glob("*.py"))
PYRIGHT = Path(sys.executable).with_name("pyright")
_MARK = re.compile(r"# error: (\S+)")
Found = Mapping[tuple[str, int], str]
"""The texts of errors by file name and line."""


def expected() -> dict[tuple[str, int], list[str]]:
    return {
        (path.name, number): mark[1].split("|")
        for path in SNIPPETS
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (mark := _MARK.search(line))
    }


def check(found: Found) -> None:
    marked = expected()
    assert len(marked) > 10
    unexpected = {place: text for place, text in found.items() if place not in marked}
    assert not unexpected
    missed = [
        place
        for place, words in marked.items()
        if not any(word in found.get(place, "") for word in words)
    ]
    assert not missed


def test_mypy_finds_each_mistake_and_nothing_else() -> None:
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "mypy",
        "--no-error-summary",
        "--output=json",
        *SNIPPETS,
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert not result.stderr
    found: dict[tuple[str, int], str] = {}
    for item in map(json.loads, result.stdout.splitlines()):
        if item["severity"] == "error":
            place = (Path(item["file"]).name, item["line"])
            found[place] = found.get(place, "") + item["message"]
    check(found)


@pytest.mark.skipif(not PYRIGHT.exists(), reason="pyright is not installed")
def test_pyright_finds_each_mistake_and_nothing_else() -> None:
    command: list[str | Path] = [PYRIGHT, "--outputjson", "--pythonpath", sys.executable, *SNIPPETS]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found: dict[tuple[str, int], str] = {}
    for item in json.loads(result.stdout)["generalDiagnostics"]:
        if item["severity"] == "error":
            place = (Path(item["file"]).name, item["range"]["start"]["line"] + 1)
            found[place] = found.get(place, "") + item["message"]
    check(found)
