"""The generator of settings.md: the keys of the shipped plugins and of the sources of data."""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.attribute_docs import attribute_docs
from pexpolicy_sources import DataSourceSettings

SHIPPED = "pexpolicy_"
"""How the modules of the plugins of this repository begin."""
INTRODUCTION = """# Settings of the shipped plugins

Every key of the plugins in this repository, and of the sources of data, from the models that check
the configuration; `pexpolicy config schema` prints the same as JSON Schema. The page of each plugin
says what its keys are for. `priority`, `timeout` and `on_error` are set one level higher, in
[`[plugins.NAME]`](configuration.md#pluginsname-which-plugins-are-asked-and-how). Paths are relative
to the configuration file. A secret comes from a file (`…_file`) or an environment variable
(`…_env`). `[settings]` is short for `[plugins.NAME.settings]`.
"""
WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    Any: "any",
}
NAMES = {"TableFile": "path"}
"""Words for types by their names."""
PARTS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "rules": {"rules": ("pexpolicy_rules.settings", "Rule")},
}
"""Tables that a plugin reads one by one, so the model of its settings does not name theirs."""


def page() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION]
    for entry in _shipped("pexpolicy"):
        model = getattr(entry.load(), "Settings", None)
        assert model is not None, entry.name
        if not model.model_fields:
            parts.append(f"## {entry.name}\n\nIt has no settings.\n")
            continue
        title = "settings"
        tables = {model: [f"[{title}]"]}
        _add_tables(tables, model, title)
        for name, (module, part) in PARTS.get(entry.name, {}).items():
            row = getattr(import_module(module), part)
            tables[row] = [f"[[{title}.{name}]]"]
            _add_tables(tables, row, "", name)
        parts += [f"## {entry.name}\n", *(_section(*table) for table in tables.items())]
    drivers = {entry.name: entry.load().Settings for entry in _shipped("pexpolicy.sources")}
    shared = list(DataSourceSettings.model_fields)
    title = "[sources.NAME]"
    parts += ["## sources\n", _section(next(iter(drivers.values())), [title], shared)]
    for name, model in drivers.items():
        own = [key for key in model.model_fields if key not in shared]
        parts.append(_section(model, [f'{title} with driver = "{name}"'], own))
    return "\n".join(parts)


def _shipped(group: str) -> list[EntryPoint]:
    found = (entry for entry in entry_points(group=group) if entry.module.startswith(SHIPPED))
    return sorted(found, key=lambda entry: entry.name)


def _add_tables(
    tables: dict[type[BaseModel], list[str]], model: type[BaseModel], title: str, row: str = ""
) -> None:
    """Add the models in the fields of a model, each with the tables that it describes."""
    for name, field in model.model_fields.items():
        place = f"{title}.{name}" if title else f"{name} of {row}"
        written = str(field.annotation)
        for inner in _models(field.annotation):
            named = f"{place}.NAME" if "dict[" in written else place
            full = f"[[{named}]]" if "list[" in written else f"[{named}]" if title else named
            tables.setdefault(inner, []).append(full)
            _add_tables(tables, inner, named)


def _section(model: type[BaseModel], titles: list[str], keys: Iterable[str] = ()) -> str:
    docs = attribute_docs(model)
    fields = model.model_fields
    secrets = getattr(model, "_secrets", ())
    places = {f"{name}_{place}": place for name in secrets for place in ("env", "file")}
    rows = [
        (
            f"`{key}`",
            _type(fields[key].annotation),
            _default(fields[key]),
            _meaning(docs, key, places).replace("``", "`"),
        )
        for key in keys or fields
        if key not in secrets
    ]
    shown = " and ".join(f"`{title}`" for title in titles)
    return f"### {shown}\n\n{table(('key', 'type', 'default', 'meaning'), rows)}"


def _meaning(docs: Mapping[str, str], key: str, places: Mapping[str, str]) -> str:
    if key not in places:
        return docs[key]
    place = "the name of a variable" if places[key] == "env" else "a file"
    return f"{docs[key.removesuffix(f'_{places[key]}')].removesuffix('.')}: {place} that has it."


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the tables in a type, except conditions, which have a page of their own."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation.__module__.startswith((SHIPPED, "pexpolicy.config")):
            yield annotation
    else:
        for part in get_args(annotation):
            yield from _models(part)


def _type(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        said = _type(parts[0])
    elif origin is Literal:
        every = set(parts) == set(ENDPOINTS)
        said = "request types" if every else ", ".join(f"`{word}`" for word in parts)
    elif origin in (Union, types.UnionType):
        said = " or ".join(dict.fromkeys(_type(p) for p in parts if p is not type(None)))
    elif origin in (list, tuple, frozenset, set):
        said = f"list of {_type(parts[0])}".replace("list of request types", "request types")
    elif origin is dict:
        said = f"table of {_type(parts[1])}".removesuffix(" of any")
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        said = "table"
    else:
        said = WORDS.get(annotation, NAMES.get(getattr(annotation, "__name__", ""), "text"))
    return said


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    depends_on_machine = field.default_factory is not None and isinstance(default, str)
    empty = default is None or default in ({}, [], "", (), frozenset())
    if empty or depends_on_machine or isinstance(default, BaseModel):
        return ""
    return f"`{json.dumps(default)}`"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (heads, *rows)]
    lines.insert(1, "|".join("---" for _ in heads))
    return "".join(f"| {line} |\n" if "---|" not in line else f"|{line}|\n" for line in lines)


if __name__ == "__main__":
    (Path(__file__).parent / "settings.md").write_text(page(), encoding="utf-8")
