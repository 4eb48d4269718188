"""Places of keys in the text of a TOML file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Self, TypeVar

from pexpolicy.config.files import EncodingError, decode_text, read_file
from pexpolicy.config.problems import ConfigWarning, Key, Problem, dotted_key

_LONG = r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}'
_QUOTED = r'"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\''
_NAME = rf"(?:{_QUOTED}|[A-Za-z0-9_-]+)"
_KEY = rf"{_NAME}(?:[ \t]*\.[ \t]*{_NAME})*"
_STRING = re.compile(rf"{_LONG}|{_QUOTED}|#[^\n]*", re.DOTALL)
"""A text or a comment, which may hold what looks like a key or a bracket."""
_ENTRY = re.compile(
    rf"(?P<indent>[ \t]*)(?:(?P<open>\[\[?)[ \t]*(?P<table>{_KEY})[ \t]*\]\]?|"
    rf"(?P<key>{_KEY})[ \t]*=)"
)
"""The header of a table, or a key, at the beginning of a line."""
_FORM = (
    "write NAME = VALUE below a line [TABLE], each once; text in quotes, with a closing quote, or "
    "in single quotes if it holds a backslash; true and false in lower case"
)
_ELSEWHERE = re.compile(r"\A(\S.*?\.\w+) line ([1-9]\d*): |\((\S[^()]*\.\w+) line ([1-9]\d*)\)")
"""The place of a problem in another file, such as one that a plugin reads."""
_PLACE = re.compile(rf"{_ELSEWHERE.pattern}| \(\w+ (?:{_QUOTED})\)\Z")
"""What a text tells of its place: file and line, or a name at its end."""
_VALUE = re.compile(r"""(?<!\w)'[^']*'|"[^"]*"|\S*[@\d]\S*""")
"""What differs between findings of one kind: text in quotes, an alias, a number."""
MAX_ALIKE = 3
"""Lines for findings of one kind with different values; more of them are one line."""
MAX_PLACES = 5
"""Places that a line names."""
R = TypeVar("R", Problem, ConfigWarning)
Position = tuple[int, int]
"""Line and column, both from 1."""


class Places:
    """Where the keys of a TOML text are; its parser does not tell."""

    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """Read a file; the places in one that cannot be read are unknown."""
        try:
            return cls(decode_text(read_file(path)))
        except (OSError, EncodingError):
            return cls("")

    def line_of(self, key: Key) -> int:
        """Return the line of a key, or of the innermost table or key around it; 0 if unknown."""
        return self.position_of(key)[0]

    def place_of(self, problem: Problem | ConfigWarning) -> tuple[str, int, int] | None:
        """Return file, line and column of a problem, from 1; ``None`` if its place is unknown.

        The file is empty for the text itself; another one has the column 0.
        """
        for text in (*(f"{part}: " for part in problem.key), problem.text):
            if (found := _ELSEWHERE.search(text)) is not None:
                file, number = filter(None, found.groups())
                return file, int(number), 0
        line, column = problem.at or self.position_of(problem.key)
        is_known = 0 < line <= self._text.count("\n") + 1
        return ("", line, column) if is_known else None

    def position_of(self, key: Key) -> Position:
        """Return line and column of a key, or of the longest beginning of it that is in the text.

        Parts that only the model has, such as the kind of a condition, are skipped.
        """
        path: Key = ()
        for part in key:
            path = (*path, part) if (*path, part) in self._places else path
        return self._places.get(path, (0, 0))

    @cached_property
    def _places(self) -> Mapping[Key, Position]:
        """The line and column of each table and key that begins a line."""
        found: dict[Key, Position] = {}
        last: dict[Key, int] = {}
        table: Key = ()
        depth = 0
        # Of a text of several lines, only the line ends stay.
        plain = _STRING.sub(lambda one: "\n" * one[0].count("\n") or one[0], self._text)
        for number, line in enumerate(plain.split("\n"), 1):
            entry = _ENTRY.match(line) if depth == 0 else None
            if entry is not None:
                place = number, len(entry["indent"]) + 1
                path: Key = () if entry["table"] else table
                for name in _names(entry["table"] or entry["key"]):
                    path = (*path, last[path]) if path in last else path
                    path = (*path, name)
                    found.setdefault(path, place)
                if entry["open"] == "[[":
                    last[path] = last.get(path, -1) + 1
                if entry["table"]:
                    table = (*path, last[path]) if path in last else path
                    found[table] = place
            code = _STRING.sub("", line[entry.end() if entry is not None else 0 :])
            depth += sum(map(code.count, "[{")) - sum(map(code.count, "]}"))
        return found


def grouped(remarks: Iterable[R], path: Path) -> list[R]:
    """Return one remark for those about a configuration that are equal but for their places, and
    for more than ``MAX_ALIKE`` that differ in a value, with the count and the first places.
    """
    places = Places.of_file(path)
    kinds: dict[object, dict[object, list[R]]] = {}
    for remark in dict.fromkeys(remarks):
        names, text = _names_of(remark.key), _PLACE.sub("", remark.text)
        alike = kinds.setdefault((names[:3], _VALUE.sub("", text)), {})
        alike.setdefault((names[-1:], text), []).append(remark)
    merged: list[R] = []
    for kind in kinds.values():
        exact: list[list[R]] = list(kind.values())
        if differs := len(exact) > MAX_ALIKE:
            exact = [list(chain(*exact))]
        for found in exact:
            first = found[0]
            said = f", such as: {first.text}" if differs else f": {_PLACE.sub('', first.text)}"
            whole = replace(
                first,
                key=_names_of(first.key),
                text=f"{len(found)} times ({_listed(found, places)}){said}",
                at=first.at or places.position_of(first.key),
            )
            merged.append(whole if len(found) > 1 else first)
    return merged


def _listed(found: Sequence[R], places: Places) -> str:
    """Return the first places, such as ``rooms.csv lines 3, 4, 6``."""
    shown: dict[str, dict[str, None]] = {}
    for one in found[:MAX_PLACES]:
        label, name = "", dotted_key(one.key[3:] or one.key)
        if (place := places.place_of(one)) is not None:
            label, name = f"{place[0]} lines ".lstrip(), str(place[1])
        shown.setdefault(label, {})[name] = None
    more = ", ..." if len(found) > MAX_PLACES else ""
    return ", ".join(label + ", ".join(names) for label, names in shown.items()) + more


def _names_of(key: Key) -> Key:
    """Return a key without numbers and the places in other files."""
    return tuple(one for one in key if isinstance(one, str) and not _ELSEWHERE.match(f"{one}: "))


def broken_toml(error: Exception, text: str) -> tuple[str, Position | None]:
    """Return what is wrong with a text that is not TOML, and its line and column, both from 1.

    No value of the text is repeated: it may be a password.
    """
    message = f"{error}; {_FORM}"
    if (found := re.search(r"\(at line (\d+), column (\d+)\)", message)) is not None:
        return message, (int(found[1]), int(found[2]))
    lines = enumerate(text.split("\n"), 1)
    open_quotes = [n for n, line in lines if line.count("'") % 2 or line.count('"') % 2]
    return message, (open_quotes[-1], 1) if open_quotes else None


def _names(written: str) -> Key:
    """Return the parts of a dotted key."""
    parts, table = [], tomllib.loads(f"{written} = 0")
    while table:
        ((name, table),) = table.items()
        parts.append(name)
    return tuple(parts)
