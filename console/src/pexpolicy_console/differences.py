"""What differs between the files of two configurations that were kept, with values but no secrets.

A file in TOML is compared key by key, a table in CSV cell by cell, another one as a whole.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from pexpolicy.audit.redaction import without_stream_key
from pexpolicy.cli.for_console import Activation, Places, copy_of
from pexpolicy.config.files import EncodingError, decode_text
from pexpolicy.models.alias import without_password
from pexpolicy_console.template_filters import short

MAX_ROWS = 200
MAX_VALUE = 300
"""Characters that are shown of a value."""
SECRET = "a secret"  # noqa: S105 - what is shown in its place
_SECRET = re.compile(
    r"(?<![a-z])(pins?|pass(word|wd|phrase)s?|secrets?|tokens?|credentials?|keys?|hash|sha256)"
    r"(?![a-z])(?! (file|env|length)$)",
    re.IGNORECASE,
)
_NAMES = ("name", "alias", "aliases", "user", "id")
"""The keys by which one of several tables is told from the others, the best first."""


class Value(NamedTuple):
    """A value as it is written: ``item`` is the rule or row that it is of, ``place`` the line."""

    item: str
    key: str
    content: Any
    place: str


Values = Mapping[tuple[str, str], Value]


def difference(folder: Path, before: Activation, after: Activation) -> dict[str, Any]:
    """Return the rows of a table: where, key, place, and both values, of which one may be missing.

    Raises ``OSError`` for a copy that is damaged.
    """
    rows: list[dict[str, Any]] = []
    if before.version != after.version:
        rows.append(_row("pexpolicy", "version", "", before.version, after.version))
    names = before.files.keys() | after.files.keys()
    for name in sorted(names):
        if before.files.get(name) != after.files.get(name):
            old, new = (_content(folder, one, name) for one in (before, after))
            rows += _changes(Path(name), old, new)
    for name in sorted(before.secrets.keys() | after.secrets.keys()):
        if before.secrets.get(name) != after.secrets.get(name):
            rows.append(_row(PurePath(name).name, "", "", SECRET, "changed"))
    left_out = max(len(rows) - MAX_ROWS, 0)
    return {"rows": rows[:MAX_ROWS], "left_out": left_out, "problems": []}


def _content(folder: Path, kept: Activation, name: str) -> str | None:
    """Return the text of a file; ``None`` without one, and empty for one that is no text."""
    if not kept.files.get(name):
        return None
    try:
        return decode_text(copy_of(folder, kept, name))
    except EncodingError:
        return ""


def _changes(path: Path, old: str | None, new: str | None) -> Iterator[dict[str, Any]]:
    was, now = (_values(path, text or "") for text in (old, new))
    if was is None or now is None or not (was or now):
        states = ["missing" if text is None else "there" for text in (old, new)]
        yield _row(path.name, "", "", *(states if None in (old, new) else ("", "changed")))
        return
    gone = {one.item for one in was.values()} - {one.item for one in now.values()}
    added = {one.item for one in now.values()} - {one.item for one in was.values()}
    for values, items, is_new in ((was, gone, False), (now, added, True)):
        for item in sorted(items - {""}):
            mine = [one for one in values.values() if one.item == item]
            text = ", ".join(f"{one.key} {_shown(one)}" for one in mine)[:MAX_VALUE]
            yield _row(item, "", mine[0].place, *((None, text) if is_new else (text, None)))
    for place in dict.fromkeys((*was, *now)):
        before, after = was.get(place), now.get(place)
        one = after or before
        assert one is not None
        if one.item in (gone | added) - {""} or (
            before is not None and after is not None and before.content == after.content
        ):
            continue
        sides = [None if side is None else _shown(side) for side in (before, after)]
        if _is_secret(one) and None not in sides:
            sides[1] = "changed"
        yield _row(one.item, one.key, one.place, *sides)


def _row(where: str, key: str, place: str, before: str | None, after: str | None) -> dict[str, Any]:
    where, key = (where, key) if where else (key, "")
    return {"where": where, "key": key, "place": place, "before": before, "after": after}


def _is_secret(value: Value) -> bool:
    kind, _, _ = value.item.partition(" ")
    return _SECRET.search(f"{kind} {value.key}".replace("_", " ")) is not None


def _shown(value: Value) -> str:
    if _is_secret(value):
        return SECRET
    content = value.content
    if isinstance(content, list) and all(isinstance(one, str) for one in content):
        content = ", ".join(content)
    return without_password(without_stream_key(short(content)))[:MAX_VALUE]


def _values(path: Path, text: str) -> Values | None:
    """Return the values in a file; ``None`` for one of another kind."""
    try:
        if path.suffix == ".toml":
            places = Places(text)
            found = _flat(tomllib.loads(text), (), "", "", path.name, places)
        elif path.suffix == ".csv":
            found = _cells(path, text)
        else:
            return None
        return {(one.item, one.key): one for one in found}
    except (ValueError, csv.Error):
        return None


def _flat(
    value: Any, key: tuple[str | int, ...], item: str, inner: str, file: str, places: Places
) -> Iterator[Value]:
    """Yield the values in a table of TOML; a table in a list is an item by its name."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _flat(one, (*key, name), item, f"{inner}.{name}".lstrip("."), file, places)
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        for number, one in enumerate(value):
            label = next((short(one[n]) for n in _NAMES if n in one), str(number + 1))
            kind = str(key[-1]).removesuffix("s") if key else ""
            yield from _flat(one, (*key, number), f"{kind} {label}", "", file, places)
    else:
        line = places.line_of(key)
        yield Value(item, inner, value, f"{file} line {line}" if line else file)


def _cells(path: Path, text: str) -> Iterator[Value]:
    """Yield the cells of a table; a row is an item by its first cell."""
    header, _, _ = text.partition("\n")
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter)
    columns = next(reader, [])
    for cells in reader:
        place = f"{path.name} line {reader.line_num}"
        for column, cell in zip(columns, cells, strict=False):
            yield Value(f"{path.stem} {cells[0]}", column.strip(), cell, place)
