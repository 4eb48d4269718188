"""Case files: requests and their expected outcomes, and the cases to run."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import click
import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pexpolicy.config.problems import Problem, problems_of
from pexpolicy.explain.request_forms import parse_moment
from pexpolicy.models.request import Request
from pexpolicy.testing.requests import RequestError, composed
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


class BadCaseError(Exception):
    """A case that cannot be used; ``args`` are its problems, each of which begins with its key."""


def read_cases(
    path: Path, make: Callable[[dict[str, Any], dict[str, Any]], C], keys: Sequence[str] = ("case",)
) -> list[C]:
    """Return what ``make`` makes of a TOML file and each of its cases, in their order.

    ``make`` raises ``BadCaseError``; ``keys`` are those above all cases. Raise ``CasesError`` with
    all problems.
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
    cases: dict[str, C] = {}
    for number, table in enumerate(tables, 1):
        if not isinstance(table, dict):
            problems.append(f"case {number}, write [[case]], and its keys below")
            continue
        name = table.get("name")
        label = f"case {number}" + (f" ({brief(name)})" if isinstance(name, str) else "")
        try:
            case = make(document, table)
        except BadCaseError as error:
            problems += [f"{label}, {problem}" for problem in error.args]
            continue
        if case.name in cases:
            told = f"two cases have the name {brief(case.name)}: a report could not tell them apart"
            problems.append(told)
        cases[case.name] = case
    if problems:
        raise CasesError(path, problems)
    return list(cases.values())


def chosen_or_exit(
    paths: Iterable[Path], load: Callable[[Path], Iterable[C]], only: str
) -> list[C]:
    """Return the cases of all files whose names contain ``only``, in any case.

    Print the problems of each file, and exit with 2, also without any case.
    """
    cases: list[C] = []
    problems: list[str] = []
    for path in paths:
        try:
            cases += load(path)
        except CasesError as error:
            problems += str(error).splitlines()
    chosen = [case for case in cases if only.casefold() in case.name.casefold()]
    if not chosen and not problems:
        why = f"none of {len(cases)} has {only!r} in its name" if cases else "the files have none"
        problems = [f"no case ran: {why}"]
    for problem in problems:
        click.secho(printable(problem), fg="red", err=True)
    if problems:
        sys.exit(EX_USAGE)
    return chosen


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Expected(_Table):
    """Expected outcome; a key that is left out is expected to be that of the default.

    Without any key, no plugin is expected to decide. If one is, ``result`` and ``status`` are
    compared only where they are set.
    """

    action: Literal["continue", "reject", "redirect"] | None = None
    decided_by: str | None = Field(None, min_length=1)
    """The name of a plugin, or ``default``."""
    status: int | None = None
    """The HTTP status."""
    result: dict[str, Any] | list[Any] | None = None
    """Fields of the result; others may have any value."""
    reason: str | None = None
    steps: dict[str, str] | None = None
    """Outcome of the first step of a plugin, by its name, or of one hook, by ``plugin.hook``."""
    annotations: dict[str, dict[str, Any]] | None = None
    """Values that a plugin adds to the audit line, by its name; others may have any value."""


class _CaseTable(_Table):
    name: str = Field(min_length=1)
    endpoint: str | None = None
    shape: str | None = None
    request: dict[str, Any] | None = None
    url: str | None = None
    at: Annotated[datetime, BeforeValidator(lambda written: parse_moment(str(written)))] | None = (
        None
    )
    """With a zone: on another machine, another time would be meant without it."""
    peer: str | None = None
    environment: str | None = None
    expect: Expected = Expected()


@dataclass(frozen=True, slots=True)
class Case(NamedCase):
    """One request and its expected outcome: a ``request``, or a ``url`` as written."""

    endpoint: str | None
    request: Request | None
    url: str | None
    expected: Expected
    at: datetime | None = None
    """The time of conditions on the time; ``None`` for the present."""
    peer: str | None = None
    """The address of the client; it is that of ``request`` as well."""
    environment: str | None = None
    """The platform that asks; by default that of the peer."""


def load_cases(path: Path | str) -> list[Case]:
    """Return the cases of a TOML file, in their order.

    Raises ``CasesError`` with all problems::

        for case in load_cases("cases.toml"):
            assert_case(Doors, case)
    """
    path = Path(path)
    return read_cases(path, lambda _, table: _case(path, table))


def _case(path: Path, table: dict[str, Any]) -> Case:
    try:
        read = _CaseTable.model_validate(table)
    except pydantic.ValidationError as error:
        raise BadCaseError(*problems_of(error, _CaseTable)) from None
    request = None
    if read.url is not None:
        given = [one for one in ("endpoint", "shape", "request") if getattr(read, one) is not None]
        if given:
            text = "leave it out: the url contains it"
            raise BadCaseError(*(Problem((name,), text) for name in given))
    elif read.endpoint is None:
        raise BadCaseError(Problem(("endpoint",), "is missing; without it, write a whole url"))
    else:
        try:
            request = composed(read.endpoint, read.shape, read.request or {})
        except RequestError as error:
            inside = () if error.key[0] in ("endpoint", "shape") else ("request",)
            raise BadCaseError(Problem((*inside, *error.key), error.text)) from None
    origin = read.peer, read.environment
    return Case(read.name, path, read.endpoint, request, read.url, read.expect, read.at, *origin)
