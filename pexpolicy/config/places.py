"""Places of keys in the text of a TOML file, and excerpts of it without secrets."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

from pexpolicy.config.files import EncodingError, decode_text, read_file
from pexpolicy.config.problems import ConfigWarning, Key, Problem, dotted_key, may_be_secret
from pexpolicy.text import printable

HIDDEN = "***"
"""In the place of a value, of any length."""
MAX_WIDTH = 100
"""Columns of an excerpt."""
_BEFORE = 40
"""Columns that stay before a mark in a line that is cut."""
_QUOTED = r'"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\''
_NAME = rf"(?:{_QUOTED}|[A-Za-z0-9_-]+)"
_KEY = rf"{_NAME}(?:[ \t]*\.[ \t]*{_NAME})*"
_SKIPPED = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_ASSIGNMENT = re.compile(rf"({_KEY})[ \t]*=")
_HEADER = re.compile(rf"[ \t]*(\[\[?)[ \t]*({_KEY})[ \t]*\]\]?")
_VALUE = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|'
    rf"{_QUOTED}|\d{{4}}-\d\d-\d\d \d[^\s,\]}}#]*|[^\s,\]}}#]+",
    re.DOTALL,
)
_BROKEN_HEAD = re.compile(
    r'\[{1,2}[A-Za-z_][\w.-]*("[^"]*")?[\w.-]*\]{0,2}(?=\s*(?:#|\Z))'
    r"|\s*[\w.-]{1,40}\s*[=:](?=\s*[^=\s])",
    re.ASCII,
)
"""A table or a key at the beginning of a line that is no TOML. A line of a PEM file is neither, nor
is a list inside a list.
"""
_WORD = re.compile(
    rf"(?P<comment>#.*)|(?P<key>{_KEY}[ \t]*=)|(?P<quoted>{_QUOTED})|[^\s\[\]{{}},\"'=#]+"
)
_NAMES = ", and a name with other characters than A-Z, 0-9, _ or - in quotes"
_BROKEN = {
    "Expected newline": "; write text in quotes, and a comment after #",
    "Expected '='": f"; write NAME = VALUE{_NAMES}",
    "Expected ']'": f"; write ] at the end of the line{_NAMES}",
    "Invalid statement": "; write NAME = VALUE, below a line [TABLE]",
    "Illegal character '\\n'": "; a closing quote is missing",
    "Unterminated": "; a closing quote is missing",
    'Expected "\'"': "; a closing quote is missing",
    "Unescaped '\\'": "; write text with backslashes in single quotes",
    "hex value": "; write text with backslashes in single quotes",
    "Cannot": "; it is there already: write it once",
    "Unclosed array": "; write text in quotes, a comma between two items, and ] after the last",
    "Invalid initial": "; a table in braces is on one line, without a comma at its end",
    "Invalid value": "; write text in quotes, and true and false in lower case",
}
"""By a part of the parser's message: what to write."""
_LITERALS = {"true", "false", "yes", "no", "on", "off", "none", "null"}
_ELSEWHERE = re.compile(r"\A\S.*\.\w+ line [1-9]\d*(?:: |\Z)")
"""The place of a problem in another file, such as one that a plugin reads."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """One line of a file and the place of a problem in it, both counted from 1."""

    line: int
    column: int
    text: str = field(default="", repr=False)
    """The line, without its values unless the problem repeats them."""
    mark: str = ""
    """Blanks, and ``^`` under the place."""


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
        """Return the line of a key, or of the innermost table around it; 0 if unknown."""
        at = self._find(key)
        return 0 if at is None else self._text.count("\n", 0, at) + 1

    def excerpt(self, problem: Problem | ConfigWarning) -> Excerpt | None:
        """Return the excerpt of a problem; ``None`` if its place is not in the text."""
        if _ELSEWHERE.search(problem.text) or any(map(_ELSEWHERE.search, map(str, problem.key))):
            return None
        if problem.at is not None:
            number, column = problem.at
            lines = self._text.split("\n")
            broken = number <= len(lines)
            return _excerpt(lines[number - 1], number, column - 1) if broken else None
        if (at := self._find(problem.key)) is None:
            return None
        first, last = self._text.rfind("\n", 0, at) + 1, (self._text + "\n").find("\n", at)
        number = self._text.count("\n", 0, at) + 1
        repeats = "" if may_be_secret(problem.key) else problem.text
        return _excerpt(self._text[first:last], number, at - first, repeats, is_toml=True)

    def _find(self, key: Key) -> int | None:
        """Return where a key begins, or the longest beginning of it that is in the text.

        Parts that only the model has, such as the kind of a condition, are skipped.
        """
        path: Key = ()
        for part in key:
            path = (*path, part) if (*path, part) in self._offsets else path
        return self._offsets.get(path)

    @cached_property
    def _offsets(self) -> Mapping[Key, int]:
        try:
            return _offsets(self._text)
        except (AttributeError, TypeError, IndexError, ValueError, RecursionError):
            return {}  # not TOML, or nested more deeply than Python allows


def broken_toml(error: Exception, text: str) -> tuple[str, tuple[int, int] | None]:
    """Return what is wrong with a text that is not TOML, and its line and column, both from 1.

    No value of the text is repeated: it may be a password.
    """
    message = str(error)
    with suppress(ValueError, SyntaxError):
        key = re.compile(r"\(['\"].*\)(?= twice| \(at)")
        message = key.sub(lambda found: dotted_key(ast.literal_eval(found[0])), message)
    message += next((hint for part, hint in _BROKEN.items() if part in message), "")
    if (found := re.search(r"\(at line (\d+), column (\d+)\)", message)) is not None:
        return message, (int(found[1]), int(found[2]))
    lines = enumerate(text.split("\n"), 1)
    open_quotes = [n for n, line in lines if line.count("'") % 2 or line.count('"') % 2]
    return message, (open_quotes[-1], 1) if open_quotes else None


class _Scanner:
    """Notes where each key, and each item of a list, begins in valid TOML."""

    def __init__(self, text: str) -> None:
        self.found: dict[Key, int] = {}
        self._text = text

    def end_of(self, pattern: re.Pattern[str], at: int) -> int:
        return pattern.match(self._text, at).end()  # type: ignore[union-attr]  # the caller catches it

    def skip(self, at: int) -> int:
        return self.end_of(_SKIPPED, at)

    def value(self, at: int, path: Key) -> int:
        self.found.setdefault(path, at)
        if (begin := self._text[at]) not in "[{":
            return self.end_of(_VALUE, at)
        index, at = 0, self.skip(at + 1)
        while self._text[at] not in "]}":
            at = self.value(at, (*path, index)) if begin == "[" else self.assignment(at, path)
            at, index = self.skip(at), index + 1
            at = self.skip(at + (self._text[at] == ","))
        return at + 1

    def assignment(self, at: int, table: Key) -> int:
        for name in _names(_ASSIGNMENT.match(self._text, at)[1]):  # type: ignore[index]  # the same
            table = (*table, name)
            self.found.setdefault(table, at)
        return self.value(self.skip(self.end_of(_ASSIGNMENT, at)), table)


def _offsets(text: str) -> Mapping[Key, int]:
    scanner, arrays = _Scanner(text), dict[Key, int]()
    table: Key = ()
    at = scanner.skip(0)
    while at < len(text):
        if (header := _HEADER.match(text, at)) is None:
            at = scanner.skip(scanner.assignment(at, table))
            continue
        table, names = (), _names(header[2])
        for number, name in enumerate(names, 1):
            table = (*table, name)
            scanner.found.setdefault(table, at)
            if number == len(names) and header[1] == "[[":
                arrays[table] = arrays.get(table, -1) + 1
            table = (*table, arrays[table]) if table in arrays else table
        scanner.found[table] = at
        at = scanner.skip(header.end())
    return scanner.found


def _names(written: str) -> Key:
    """Return the parts of a dotted key."""
    parts, table = [], tomllib.loads(f"{written} = 0")
    while table:
        ((name, table),) = table.items()
        parts.append(name)
    return tuple(parts)


def _excerpt(
    line: str, number: int, at: int, repeats: str = "", *, is_toml: bool = False
) -> Excerpt:
    """Return a line without what may be a value: only the first one after ``at`` stays, where the
    text of the problem ``repeats`` it.
    """
    head = (_HEADER if is_toml else _BROKEN_HEAD).match(line)
    text = line[: head.end()] if head is not None else ""
    done, mark = len(text), at if at < len(text) else -1
    if '"""' in line or "'''" in line:  # the line may begin inside of a value
        line, text, done = HIDDEN, "", 0
    for found in _WORD.finditer(line, done):
        if mark < 0 and at < found.end():
            mark = len(text) + max(min(at, found.start()) - done, 0)
        text, done = text + line[done : found.start()], found.end()
        content, is_key = found[0].strip("\"'"), found["key"] is not None and is_toml
        if found["comment"] is not None:
            break
        if not is_key and found.start() >= at:
            if content and re.search(rf"(?<!\w){re.escape(content)}(?!\w)", repeats):
                is_key = True
            repeats = ""
        is_shown = is_key or content.lower() in _LITERALS
        quote = found[0][0] if found["quoted"] is not None else ""
        text += found[0] if is_shown else f"{quote}{HIDDEN}{quote}"
    else:
        text += line[done:]
    mark = min(mark, len(text)) if mark >= 0 else len(text)
    cut = max(mark - _BEFORE, 0) if len(text) > MAX_WIDTH and mark >= MAX_WIDTH - _BEFORE else 0
    text = f"…{text[cut + 1 :]}" if cut else text
    text = f"{text[: MAX_WIDTH - 1]}…" if len(text) > MAX_WIDTH else text
    text = printable(text.rstrip().replace("\t", " "))
    return Excerpt(number, at + 1, text, " " * (mark - cut) + "^")
