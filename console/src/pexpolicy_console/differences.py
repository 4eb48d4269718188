"""What differs between the files of two configurations that were kept, with values but no secrets.

A file in TOML is compared key by key, a table in CSV cell by cell, another one as a whole.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from pexpolicy.audit.redaction import without_stream_key
from pexpolicy.cli.for_console import Activation, Places, copy_of
from pexpolicy.config.files import EncodingError, decode_text, read_file
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
    """A value as it is written; ``item`` is the rule or row that it is of."""

    item: str
    key: str
    content: Any
    place: str

    @property
    def is_secret(self) -> bool:
        """Whether its name, or that of the kind of its item, is one of secrets."""
        text = f"{self.item.partition(' ')[0]} {self.key}"
        return _SECRET.search(text.replace("_", " ")) is not None

    @property
    def shown(self) -> str:
        """What is shown of it."""
        content = self.content
        if isinstance(content, list) and all(isinstance(one, str) for one in content):
            content = ", ".join(content)
        text = without_password(without_stream_key(short(content)))
        return SECRET if self.is_secret else text[:MAX_VALUE]


Values = dict[str, dict[str, Value]]
"""By item and key."""


def difference(folder: Path, before: Activation, after: Activation) -> dict[str, Any]:
    """Return rows with both values, or the one that is there; raise ``OSError`` for a copy."""
    rows: list[dict[str, Any]] = []
    if before.version != after.version:
        rows.append(_row("pexpolicy", "version", "", before.version, after.version))
    for name in sorted(before.files.keys() | after.files.keys()):
        if before.files.get(name) != after.files.get(name):
            rows += _changes(Path(name), *(_content(folder, one, name) for one in (before, after)))
    for name in sorted(before.secrets.keys() | after.secrets.keys()):
        if before.secrets.get(name) != after.secrets.get(name):
            rows.append(_row(PurePath(name).name, "", "", SECRET, "changed"))
    return {"rows": rows[:MAX_ROWS], "left_out": len(rows[MAX_ROWS:])}


def _content(folder: Path, kept: Activation, name: str) -> str | None:
    """Return the text of a file; ``None`` without one, and empty for one that is no text."""
    if not kept.files.get(name):
        return None
    try:
        # What is on the disk may have no copy.
        is_kept = (folder / "objects" / kept.files[name]).exists()
        return decode_text(copy_of(folder, kept, name) if is_kept else read_file(Path(name)))
    except EncodingError:
        return ""


def _changes(path: Path, old: str | None, new: str | None) -> Iterator[dict[str, Any]]:
    was, now = (_values(path, text or "") for text in (old, new))
    if not (was or now):
        states = ["missing" if text is None else "there" for text in (old, new)]
        yield _row(path.name, "", "", *(states if None in (old, new) else ("", "changed")))
    for item in dict.fromkeys((*was, *now)):
        before, after = was.get(item, {}), now.get(item, {})
        if item and not (before and after):
            values = [*before.values(), *after.values()]
            text = ", ".join(f"{one.key} {one.shown}" for one in values)[:MAX_VALUE]
            yield _row(item, "", values[0].place, *((text, None) if before else (None, text)))
            continue
        for key in dict.fromkeys((*before, *after)):
            sides = before.get(key), after.get(key)
            one = sides[1] or sides[0]
            if one is not None and (None in sides or sides[0].content != sides[1].content):  # type: ignore[union-attr]
                texts = [None if side is None else side.shown for side in sides]
                if one.is_secret and None not in texts:
                    texts[1] = "changed"
                yield _row(item, key, one.place, *texts)


def _row(where: str, key: str, place: str, before: str | None, after: str | None) -> dict[str, Any]:
    where, key = (where, key) if where else (key, "")
    return {"where": where, "key": key, "place": place, "before": before, "after": after}


def _values(path: Path, text: str) -> Values:
    """Return the values in a file; nothing for one of another kind."""
    found: Values = {}
    with suppress(ValueError, csv.Error):
        if path.suffix == ".toml":
            values = _flat(tomllib.loads(text), (), "", "", path.name, Places(text))
        else:
            values = _cells(path, text) if path.suffix == ".csv" else iter(())
        for one in values:
            found.setdefault(one.item, {})[one.key] = one
    return found


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
