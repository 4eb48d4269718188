"""The cases of ``pexpolicy test`` as records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pexpolicy.testing.cases import Case, CasesError, load_cases
from pexpolicy.testing.requests import url_of


def case_lines(path: Path) -> tuple[Iterator[tuple[int, dict[str, Any]]], tuple[str, ...]]:
    """Return a record for each case with its number, and the problems of the file."""
    try:
        cases = load_cases(path)
    except CasesError as error:
        return iter(()), error.problems
    return ((number, _record(case)) for number, case in enumerate(cases, 1)), ()


def _record(case: Case) -> dict[str, Any]:
    url = case.url if case.request is None else str(url_of(case.request))
    time = None if case.at is None else case.at.isoformat()
    return {"url": url, "time": time, "peer": case.peer}
