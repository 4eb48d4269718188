"""Places of keys and values in the text of a valid TOML file."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field

from pexpolicy.config.problems import Key

Span = tuple[int, int]
"""Two offsets into the text: the first character, and the one after the last."""
_SKIPPED = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"\d{4}-\d\d-\d\d \d[^\s,\]}#]*|[^\s,\]}#]+")


@dataclass(frozen=True, slots=True)
class KeyPlaces:
    """Where each key and each value is; ``scalars`` are the values that are no list or table."""

    keys: dict[Key, Span] = field(default_factory=dict)
    values: dict[Key, Span] = field(default_factory=dict)
    scalars: list[Span] = field(default_factory=list)


def key_places(text: str) -> KeyPlaces:
    """Return the places in a text that ``tomllib`` accepts.

    The parser of the standard library does not tell them.
    """
    scanner = _Scanner(text)
    scanner.scan()
    return scanner.found


class _Scanner:
    """Reads valid TOML from its beginning to its end."""

    def __init__(self, text: str) -> None:
        self.found = KeyPlaces()
        self._text = text
        self._at = 0
        self._arrays: dict[Key, int] = {}
        """The index of the last table of each array of tables."""

    def scan(self) -> None:
        """Find all keys and values."""
        table: Key = ()
        while self._skip() < len(self._text):
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._assignment(table)

    def _skip(self) -> int:
        found = _SKIPPED.match(self._text, self._at)
        assert found is not None
        self._at = found.end()
        return self._at

    def _header(self) -> Key:
        """Read ``[a.b]`` or ``[[a.b]]``; return the place of its keys in the document."""
        begin = self._at
        is_array = self._text.startswith("[[", begin)
        self._at += 1 + is_array
        names = self._names()
        self._skip()
        self._at += 1 + is_array
        path: Key = ()
        for number, (name, span) in enumerate(names, 1):
            path = (*path, name)
            self.found.keys.setdefault(path, span)
            if number == len(names) and is_array:
                self._arrays[path] = self._arrays.get(path, -1) + 1
            if (index := self._arrays.get(path)) is not None:
                path = (*path, index)
        self.found.keys[path] = begin, self._at
        return path

    def _assignment(self, table: Key) -> None:
        path = table
        for name, span in self._names():
            path = (*path, name)
            self.found.keys.setdefault(path, span)
        self._skip()
        self._at += 1  # =
        self._skip()
        self._value(path)

    def _names(self) -> list[tuple[str, Span]]:
        """Read a dotted key."""
        names = []
        while True:
            begin = self._skip()
            found = _BARE_KEY.match(self._text, begin)
            if found is not None:
                name = found[0]
            else:
                found = _STRING.match(self._text, begin)
                assert found is not None
                (name,) = tomllib.loads(f"{found[0]} = 0")
            self._at = found.end()
            names.append((name, found.span()))
            # A dot may have blanks around it.
            if self._text[self._skip()] != ".":
                return names
            self._at += 1

    def _value(self, path: Key) -> None:
        begin = self._at
        if self._text[begin] == "[":
            self._items("]", path)
        elif self._text[begin] == "{":
            self._items("}", path)
        else:
            found = (_STRING if self._text[begin] in "\"'" else _SCALAR).match(self._text, begin)
            assert found is not None
            self._at = found.end()
            self.found.scalars.append(found.span())
        self.found.values[path] = begin, self._at

    def _items(self, end: str, path: Key) -> None:
        """Read a list, or a table in braces."""
        self._at += 1
        index = 0
        while self._text[self._skip()] != end:
            if end == "]":
                self._value((*path, index))
            else:
                self._assignment(path)
            index += 1
            if self._text[self._skip()] == ",":
                self._at += 1
        self._at += 1
