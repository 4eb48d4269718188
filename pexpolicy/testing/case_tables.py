"""Files of ``[[case]]`` tables: reading them, and choosing the cases to run."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from pexpolicy.text import brief, did_you_mean, printable

EX_USAGE = 2


@dataclass(frozen=True, slots=True)
class NamedCase:
    """A case, its name in reports, and the file that it is in."""

    name: str
    path: Path

    def __str__(self) -> str:
        return self.name


C = TypeVar("C", bound=NamedCase)


class CasesError(Exception):
    """A case file that cannot be used; ``problems`` has case and key of each error."""

    def __init__(self, path: Path, problems: Iterable[str]) -> None:
        self.path = path
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{path}: {problem}" for problem in self.problems))


def read_tables(
    path: Path, keys: Sequence[str] = ("case",)
) -> tuple[dict[str, Any], list[tuple[str, Any]], list[str]]:
    """Return a TOML file, its cases with their labels in messages, and the unknown keys.

    ``keys`` are those above all cases. Raises ``CasesError``.
    """
    try:
        document = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise CasesError(path, [f"cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise CasesError(path, [f"is not UTF-8 text (byte {error.start})"]) from None
    except (ValueError, RecursionError) as error:
        raise CasesError(path, [f"is not valid TOML: {error}"]) from None
    problems = [
        f"{key}: unknown key{did_you_mean(key, keys)}; cases are written as [[case]]"
        for key in document
        if key not in keys
    ]
    tables = document.get("case", [])
    if not isinstance(tables, list):
        raise CasesError(path, [*problems, "case: write [[case]], with two brackets"])
    return document, [(_label(n, table), table) for n, table in enumerate(tables, 1)], problems


def _label(number: int, table: object) -> str:
    name = table.get("name") if isinstance(table, Mapping) else None
    return f"case {number} ({brief(name)})" if isinstance(name, str) else f"case {number}"


def repeated(cases: Iterable[NamedCase]) -> Iterator[str]:
    """Yield the problem of each name that a case before has."""
    seen: set[str] = set()
    for case in cases:
        if case.name in seen:
            yield f"two cases have the name {brief(case.name)}: a report could not tell them apart"
        seen.add(case.name)


def chosen_or_exit(
    paths: Iterable[Path], load: Callable[[Path], Iterable[C]], only: str
) -> list[C]:
    """Return the cases of all files whose names contain ``only``, in any case.

    Print the problems of each file, and exit with 2, also without any case.
    """
    cases: list[C] = []
    valid = True
    for path in paths:
        try:
            cases += load(path)
        except CasesError as error:
            valid = False
            for problem in error.problems:
                _complain(f"{path}: {problem}")
    if not valid:
        sys.exit(EX_USAGE)
    chosen = [case for case in cases if only.casefold() in case.name.casefold()]
    if not chosen:
        why = f"none of {len(cases)} has {only!r} in its name" if cases else "the files have none"
        _complain(f"no case ran: {why}")
        sys.exit(EX_USAGE)
    return chosen


def write_or_exit(path: Path, text: str) -> None:
    """Write a report; exit with 2 where that fails."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        _complain(f"{path} cannot be written: {error.strerror}")
        sys.exit(EX_USAGE)


def _complain(text: str) -> None:
    click.secho(printable(text), fg="red", err=True)
