"""Case files: requests and their expected outcomes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from pexpolicy.config.problems import Problem, problems_of
from pexpolicy.explain.request_forms import parse_moment
from pexpolicy.models.request import Request
from pexpolicy.testing.case_tables import CasesError, NamedCase, read_tables, repeated
from pexpolicy.testing.request_templates import RequestError
from pexpolicy.testing.requests import composed, url_of


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
    at: datetime | str | None = None
    peer: str | None = None
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


def load_cases(path: Path | str) -> list[Case]:
    """Return the cases of a TOML file, in their order.

    Raises ``CasesError`` with all problems::

        for case in load_cases("cases.toml"):
            assert_case(Doors, case)
    """
    path = Path(path)
    _, tables, problems = read_tables(path)
    cases: list[Case] = []
    for label, table in tables:
        try:
            cases.append(_case(path, table))
        except _BadCase as error:
            problems += [f"{label}, {problem}" for problem in error.problems]
    problems += repeated(cases)
    if problems:
        raise CasesError(path, problems)
    return cases


class _BadCase(Exception):
    def __init__(self, *problems: Problem) -> None:
        super().__init__()
        self.problems = problems


def _case(path: Path, table: object) -> Case:
    try:
        read = _CaseTable.model_validate(table)
    except pydantic.ValidationError as error:
        raise _BadCase(*problems_of(error, _CaseTable)) from None
    if problems := list(_contradictions(read)):
        raise _BadCase(*problems)
    request = None
    if read.endpoint is not None and read.url is None:
        try:
            request = composed(read.endpoint, read.shape, read.request or {})
        except RequestError as error:
            inside = () if error.key[0] in ("endpoint", "shape") else ("request",)
            raise _BadCase(Problem((*inside, *error.key), error.text)) from None
        request.set_origin(str(url_of(request)), read.peer)
    at = _moment(read.at)
    return Case(read.name, path, read.endpoint, request, read.url, read.expect, at, read.peer)


def _moment(written: datetime | str | None) -> datetime | None:
    """Return a time with a zone: on another machine, another one would be meant without it."""
    if written is None:
        return None
    try:
        return parse_moment(str(written))
    except ValueError as error:
        raise _BadCase(Problem(("at",), str(error))) from None


def _contradictions(table: _CaseTable) -> Iterator[Problem]:
    if table.url is None:
        if table.endpoint is None:
            yield Problem(("endpoint",), "is missing; without it, write a whole url")
        return
    for key in ("endpoint", "shape", "request"):
        if getattr(table, key) is not None:
            yield Problem((key,), "leave it out: the url contains it")
