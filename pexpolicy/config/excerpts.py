"""Excerpts of a configuration file with a mark under the place of a problem, without secrets."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pexpolicy.config.encodings import EncodingError, decode_text
from pexpolicy.config.file_tracking import read_file
from pexpolicy.config.key_places import KeyPlaces, Span, key_places
from pexpolicy.config.problems import ConfigWarning, Key, Problem, may_be_secret
from pexpolicy.text import printable

HIDDEN = "***"
"""In the place of a value, of any length."""
MAX_WIDTH = 100
"""Columns of an excerpt."""
_BEFORE = 40
"""Columns that stay before a mark in a line that is cut."""
_HEAD = re.compile(
    r'\[{1,2}[A-Za-z_][\w.-]*("[^"]*")?[\w.-]*\]{0,2}(?=\s*(?:#|\Z))'
    r"|\s*[\w.-]{1,40}\s*[=:](?=\s*[^=\s])",
    re.ASCII,
)
"""A table or a key at the beginning of a line that is no TOML. A line of a PEM file is neither, nor
is a list inside a list.
"""
_QUOTED_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#')
_ELSEWHERE = re.compile(r"\A\S.*\.\w+ line [1-9]\d*(?:: |\Z)")
"""The place of a problem in another file, such as one that a plugin reads."""
_WORD = re.compile(r"[^\s\[\]{},\"'=]+")
_LITERAL = re.compile(r"(?:true|false|yes|no|on|off|none|null|nil)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """One line of a file and the place of a problem in it, both counted from 1."""

    line: int
    column: int
    text: str = field(default="", repr=False)
    """The line, without its values unless the problem repeats them."""
    mark: str = ""
    """Blanks, and ``^`` under the place."""


class Excerpts:
    """The excerpts of one file; it is read when the first one is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text: str | None = None
        self._places: KeyPlaces | None = None

    def find(self, problem: Problem | ConfigWarning) -> Excerpt | None:
        """Return the excerpt of a problem; ``None`` if its place is not in the file."""
        if _ELSEWHERE.search(problem.text) or any(map(_ELSEWHERE.search, map(str, problem.key))):
            return None
        if self._text is None:
            try:
                self._text = decode_text(read_file(self._path))
            except (OSError, EncodingError):
                self._text = ""
        if problem.at is not None:
            return self._invalid(*problem.at)
        return self._valid(problem.key, problem.text) if problem.key and self._text else None

    def _invalid(self, number: int, column: int) -> Excerpt | None:
        """Return a line that is not TOML. All that may be a value is hidden."""
        assert self._text is not None
        lines = self._text.replace("\r\n", "\n").split("\n")
        if not 1 <= number <= len(lines):
            return None
        line = lines[number - 1]
        head = _HEAD.match(line)
        begin = head.end() if head is not None else 0
        found = [word for word in _WORD.finditer(line, begin) if not _LITERAL.fullmatch(word[0])]
        words = [word.span() for word in found]
        at = column - 1
        under = next((span for span in words if span[0] <= at < span[1]), (at, at + 1))
        return replace(_excerpt(line, number, under, words), column=column)

    def _valid(self, key: Key, message: str) -> Excerpt | None:
        assert self._text is not None
        if self._places is None:
            try:
                self._places = key_places(self._text)
            except (AssertionError, IndexError, RecursionError):
                # It was changed meanwhile, or is nested more deeply than Python allows.
                self._places = KeyPlaces()
        path, is_whole = self._deepest(key)
        if not path:
            return None
        value = self._places.values.get(path)
        shown = value if value is not None and self._is_repeated(path, value, message) else None
        on_value = value is not None and is_whole and not _is_about_key(message)
        begin, end = value if value is not None and on_value else self._places.keys[path]
        first = self._text.rfind("\n", 0, begin) + 1
        last = self._text.find("\n", begin)
        last = len(self._text) if last < 0 else last
        scalars = list(self._scalars(first, last))
        hidden = [
            (max(span[0], first) - first, min(span[1], last) - first)
            for span in scalars
            if span != shown and self._text[slice(*span)] not in {"true", "false"}
        ]
        line = self._text[first : self._comment(first, last, scalars)].rstrip()
        under = begin - first, max(min(end, last), begin + 1) - first
        return _excerpt(line, self._text.count("\n", 0, begin) + 1, under, hidden)

    def _deepest(self, key: Key) -> tuple[Key, bool]:
        """Return the longest beginning of a key that is in the file, and whether it is all of it.

        Parts that only the model has, such as the kind of a condition, are skipped.
        """
        assert self._places is not None
        path: Key = ()
        for part in key:
            if (*path, part) in self._places.keys or (*path, part) in self._places.values:
                path = (*path, part)
        if path and path not in self._places.keys:
            # An item of a list has no key of its own.
            self._places.keys[path] = self._places.values[path]
        return path, path[-1:] == key[-1:]

    def _is_repeated(self, path: Key, value: Span, message: str) -> bool:
        assert self._text is not None
        content = self._text[slice(*value)].strip("\"'")
        whole_word = rf"(?<!\w){re.escape(content)}(?!\w)"
        return bool(content) and not may_be_secret(path) and bool(re.search(whole_word, message))

    def _scalars(self, first: int, last: int) -> Iterator[Span]:
        """Yield the values that are at least partly between two offsets."""
        assert self._places is not None
        scalars = self._places.scalars
        for number in range(max(bisect_left(scalars, (first, first)) - 1, 0), len(scalars)):
            if scalars[number][0] >= last:
                return
            if scalars[number][1] > first:
                yield scalars[number]

    def _comment(self, first: int, last: int, scalars: Sequence[Span]) -> int:
        """Return where the comment of a line begins, or the end of the line."""
        assert self._text is not None
        # The line may begin inside a value of several lines.
        begin = max([first, *(end for start, end in scalars if start < first)])
        for found in _QUOTED_OR_COMMENT.finditer(self._text, min(begin, last), last):
            if found[0] == "#" and not any(start < found.start() < end for start, end in scalars):
                return found.start()
        return last


def _is_about_key(message: str) -> bool:
    return message.startswith(("unknown ", "there is no ")) or "did you mean" in message


def _excerpt(line: str, number: int, under: Span, hidden: Iterable[Span]) -> Excerpt:
    text, moved = _hide(line, sorted(hidden))
    begin, end = moved(under[0]), moved(under[1])
    width = max(min(end, len(text)) - begin, 1)
    cut = begin - _BEFORE if begin + width > MAX_WIDTH else 0
    if cut > 0:
        text, begin = f"…{text[cut + 1 :]}", begin - cut
    if len(text) > MAX_WIDTH:
        text = f"{text[: MAX_WIDTH - 1]}…"
    text = printable(text.replace("\t", " "))
    mark = " " * begin + "^" * max(min(width, MAX_WIDTH - begin), 1)
    return Excerpt(number, under[0] + 1, text, mark)


def _hide(line: str, spans: Iterable[Span]) -> tuple[str, Callable[[int], int]]:
    """Return a line without the values in ``spans``, and the new place of an old one.

    The quotes of a value stay.
    """
    parts: list[str] = []
    places: list[int] = []
    done = length = 0
    for begin, end, shown in _without_quotes(line, spans):
        places += range(length, length + begin - done)
        parts += [line[done:begin], shown]
        length += begin - done
        places += [length] * (end - begin)
        length += len(shown)
        done = end
    parts.append(line[done:])
    places += range(length, length + len(line) - done)

    def moved(at: int) -> int:
        return places[at] if at < len(places) else length + len(line) - done + at - len(places)

    return "".join(parts), moved


def _without_quotes(line: str, spans: Iterable[Span]) -> Iterator[tuple[int, int, str]]:
    for begin, whole in spans:
        # Blanks at the end of a line, and its comment, are not in the excerpt.
        end = min(whole, len(line))
        if begin >= end:
            continue
        quoted = end - begin >= 2 and line[begin] == line[end - 1] and line[begin] in "\"'"  # noqa: PLR2004 - two quotes
        yield (begin + 1, end - 1, HIDDEN) if quoted else (begin, end, HIDDEN)
