"""Report of the findings as a table and as JSON."""

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.findings import Finding, Limit, Verdict
from bench.lab import Terms

_LIBRARIES = (
    "aiohttp",
    "yarl",
    "uvloop",
    "orjson",
    "msgspec",
    "pydantic",
    "structlog",
    "pluggy",
)
_STYLES = {
    Verdict.MET: "green",
    Verdict.MISSED: "bold red",
    Verdict.AIM_MET: "green",
    Verdict.AIM_MISSED: "yellow",
    Verdict.NONE: "",
}


def versions() -> dict[str, str]:
    """Return the versions of the interpreter and of the libraries that affect the figures."""
    found = {"python": f"{platform.python_implementation()} {platform.python_version()}"}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "not installed"
    return found


def method(terms: Terms) -> str:
    """Describe the method in two lines."""
    return (
        f"All servers under load at once on one core ({terms.rounds} rounds of {terms.seconds} s,"
        f" {terms.connections} connections each, 4,096 URLs), a wrk each on another core.\n"
        "A = CPU time per request of the bare aiohttp server in the same round;"
        " medians of the rounds, quartiles in brackets."
    )


def show(console: Console, findings: Sequence[Finding], terms: Terms) -> None:
    """Print the table, the versions and the method."""
    table = Table("scenario", "what", "figure", "quartiles", "goal", "verdict", "detail")
    for one in findings:
        verdict = one.verdict
        table.add_row(
            one.scenario,
            one.what,
            f"{one.figure.median:.2f} {one.unit}",
            _quartiles(one),
            _limit(one.limit),
            f"[{_STYLES[verdict]}]{verdict.value}[/]" if verdict.value else "",
            one.detail,
        )
    console.print(table)
    console.print(", ".join(f"{name} {number}" for name, number in versions().items()))
    console.print(method(terms))


def write(path: Path, findings: Sequence[Finding], terms: Terms) -> None:
    """Write the report as JSON."""
    content = {
        "method": method(terms),
        "versions": versions(),
        "machine": {"kernel": platform.release(), "cores": os.cpu_count()},
        "findings": [_plain(one) for one in findings],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


def missed(findings: Sequence[Finding]) -> bool:
    """Return whether a goal was missed."""
    return any(one.verdict is Verdict.MISSED for one in findings)


def _quartiles(one: Finding) -> str:
    figure = one.figure
    return f"({figure.low:.2f}-{figure.high:.2f})" if figure.low != figure.high else ""


def _limit(limit: Limit | None) -> str:
    return str(limit) if limit else ""


def _plain(one: Finding) -> dict[str, object]:
    return {
        "scenario": one.scenario,
        "what": one.what,
        "median": one.figure.median,
        "low_quartile": one.figure.low,
        "high_quartile": one.figure.high,
        "unit": one.unit,
        "limit": one.limit.bound if one.limit else None,
        "limit_is_smallest": one.limit.smallest if one.limit else None,
        "is_goal": one.limit.goal if one.limit else None,
        "verdict": one.verdict.value or None,
        "detail": one.detail,
    }
