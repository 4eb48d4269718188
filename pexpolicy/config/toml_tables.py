"""Arrays of tables in TOML files, such as ``[[rules]]``, with line numbers."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pydantic
from pydantic import BaseModel

from pexpolicy.config.csv_tables import TableError, in_line, read_text
from pexpolicy.config.places import Places, broken_toml
from pexpolicy.config.plugin_settings import PluginSettings, read_settings
from pexpolicy.config.problems import Key, Problem, problems_of
from pexpolicy.text import brief

M = TypeVar("M", bound=BaseModel)


def read_tables(path: Path, name: str) -> tuple[list[Table], list[str]]:
    """Return the tables ``[[name]]`` of a file, and what is wrong with each other key of it.

    Blocks; for use while a policy is built. Raises ``TableError`` for a file that cannot be read or
    parsed.
    """
    text, file = read_text(path), path.name
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        why, at = broken_toml(error, text)
        fault = in_line(file, at[0] if at else 1, f"is not valid TOML: {why}")
        raise TableError(fault) from None
    places = Places(text)
    advice = f"write each table below a line [[{name}]]"
    faults = [
        in_line(file, places.line_of((key,)), f"{brief(key)} has no meaning in this file; {advice}")
        for key in document
        if key != name
    ]
    tables = document.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        faults.append(in_line(file, places.line_of((name,)), f"must be tables: {advice}"))
        raise TableError(*faults)
    return [Table(file, values, (name, n), places) for n, values in enumerate(tables)], faults


def validated(
    values: Mapping[str, Any], model: type[M], context: Mapping[str, object]
) -> tuple[M | None, list[Problem]]:
    """Validate a table; return the model, or ``None`` and all problems.

    ``context`` is passed to the validators of the model, such as ``{"root": ...}``.
    """
    try:
        if issubclass(model, PluginSettings):
            return read_settings(model, values, context), []
        return model.model_validate(values, context=context), []
    except pydantic.ValidationError as error:
        return None, problems_of(error, model)


class Table(NamedTuple):
    """One table of a file, not validated."""

    file: str
    values: dict[str, Any]
    key: Key
    places: Places

    @property
    def line(self) -> int:
        """Line where it begins, counted from 1; 0 if unknown."""
        return self.places.line_of(self.key)

    def fault(self, key: Key, text: str) -> str:
        """Return what is wrong with a key, after its line."""
        line = self.places.line_of((*self.key, *key))
        return in_line(self.file, line, str(Problem(key, text)))
