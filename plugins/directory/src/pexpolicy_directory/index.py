"""The entries of the phone book, as they are written, and their search index."""

from __future__ import annotations

import heapq
import re
import unicodedata
from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice, takewhile
from typing import Annotated, NamedTuple, TypeAlias

from pydantic import Field

from pexpolicy import Alias
from pexpolicy.config.csv_tables import TableFile, TableRow
from pexpolicy.rows import RowSettings

MAX = 250
"""Characters of a text of Infinity."""
Text = Annotated[str, Field(max_length=MAX)]
Name = Annotated[str, Field(min_length=1, max_length=MAX)]


class Entry(TableRow):
    """One entry of the phone book."""

    alias: Name
    """The alias to call."""

    name: Name
    """The text that is shown and searched, such as the name of a person."""

    username: Text = ""
    """User name, searched as well."""

    keywords: Text = ""
    """Further words that find the entry, such as a department or a nickname."""

    groups: tuple[Name, ...] = ()
    """Groups that see the entry; none: everybody."""


class Settings(RowSettings):
    """``[plugins.directory.settings]``."""

    csv: TableFile | None = None
    """A file with an entry in each line."""

    entries: list[Entry] = []
    """Entries in the configuration, with the columns of the file."""

    groups: dict[Name, list[Name]] = {}
    """For each group the aliases, or domains such as ``@example.com``, that belong to it."""

    ignore_local: bool = False
    """Show no entries of Infinity's own."""

    limit: Annotated[int, Field(ge=1, le=100)] = 10
    """Maximum number of entries, 1 to 100, if Infinity gives none."""


_LETTERS = str.maketrans(
    {"æ": "ae", "ð": "d", "đ": "d", "ħ": "h", "ł": "l", "ŋ": "n", "ø": "o", "œ": "oe", "þ": "th"}
    | {"ŧ": "t", "\N{LATIN SMALL LETTER DOTLESS I}": "i"}
)
"""Letters that Unicode does not decompose."""
_LETTERS |= dict.fromkeys(map(ord, "\u02bb\u02bc"), "'")
"""Apostrophes that Unicode counts as letters."""
_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without accents: ``Åse Ødegård`` has ``ase`` and
    ``odegard``.
    """
    decomposed = unicodedata.normalize("NFKD", text).casefold().translate(_LETTERS)
    return _WORD.findall("".join(c for c in decomposed if not unicodedata.combining(c)))


def folded(text: str) -> str:
    """Return the words of a text, separated by one blank."""
    return " ".join(words(text))


SHORT = 2
"""Length of the beginnings of words whose entries are listed when the index is built."""
MIN_FUZZY = 4
"""Length from which on a word may have one typing error."""
MAX_WORDS = 8
"""Number of words of a search text that are looked at."""
Numbers: TypeAlias = "array[int]"
"""Numbers of entries, in order."""


class _Candidates(NamedTuple):
    """The entries that one word finds, and what their text contains."""

    lists: list[Numbers]
    starts: list[str]


class Listed(NamedTuple):
    """An entry as it is shown; ``groups`` see it, or everybody for none."""

    alias: str
    name: str
    username: str
    groups: frozenset[str]


class SearchIndex:
    """Finds entries by words of their names, aliases, user names and keywords.

    Entries are numbered in the order of their names, so the lowest numbers come first.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        ordered = sorted(entries, key=lambda entry: (folded(entry.name), entry.alias))
        self._names = [folded(entry.name) for entry in ordered]
        self._entries = [
            Listed(entry.alias, entry.name, entry.username, frozenset(entry.groups))
            for entry in ordered
        ]
        self._public = array("I", (n for n, e in enumerate(self._entries) if not e.groups))
        of_group: defaultdict[str, Numbers] = defaultdict(lambda: array("I"))
        self._keys: dict[str, list[int]] = {}
        self._texts: list[str] = []
        by_word: defaultdict[str, Numbers] = defaultdict(lambda: array("I"))
        short: defaultdict[str, Numbers] = defaultdict(lambda: array("I"))
        for number, (entry, name) in enumerate(zip(ordered, self._names, strict=True)):
            for group in entry.groups:
                of_group[group].append(number)
            alias = folded(Alias(entry.alias))
            for key in {alias, folded(entry.username)} - {"", name}:
                self._keys.setdefault(key, []).append(number)
            text = f"{name} {alias} {folded(f'{entry.username} {entry.keywords}')}".strip()
            self._texts.append(f" {text}")
            found = set(text.split())
            for word in found:
                by_word[word].append(number)
            for start in {word[:length] for word in found for length in range(1, SHORT + 1)}:
                short[start].append(number)
        self._of_group = dict(of_group)
        self._short = dict(short)
        self._by_word = dict(sorted(by_word.items()))
        self._words = list(self._by_word)
        self._longest = max(map(len, self._words), default=0)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, text: str, limit: int, groups: frozenset[str] = frozenset()) -> list[Listed]:
        """Return at most ``limit`` entries for a search text, the best match first.

        The order is: equal, begins with the text, has words that begin with those of the text, has
        words that differ by one letter; inside each by name. Entries with groups are found by
        members of one of ``groups`` only. An empty text finds all entries.
        """
        wanted = words(text)[:MAX_WORDS]
        lists = [self._public, *(self._of_group[name] for name in groups & self._of_group.keys())]
        numbers = self._visible(wanted, groups) if wanted else _merged(lists)
        return [self._entries[number] for number in islice(numbers, min(limit, len(self)))]

    def _visible(self, wanted: Sequence[str], groups: frozenset[str]) -> Iterator[int]:
        """Yield the numbers of the matching entries that the groups see, each once."""
        seen: set[int] = set()
        for number in self._ranked(wanted):
            if number not in seen:
                seen.add(number)
                needed = self._entries[number].groups
                if not needed or not needed.isdisjoint(groups):
                    yield number

    def _ranked(self, wanted: Sequence[str]) -> Iterator[int]:
        """Yield the numbers of matching entries in order; one may appear again."""
        text = " ".join(wanted)
        begin, end = bisect_left(self._names, text), bisect_right(self._names, text)
        yield from _merged([range(begin, end), self._keys.get(text, [])])
        yield from takewhile(lambda at: self._names[at].startswith(text), range(end, len(self)))
        yield from self._with_all([self._beginning_with(word) for word in wanted])
        yield from self._with_all([self._similar(word) for word in wanted])

    def _with_all(self, candidates: Sequence[_Candidates]) -> Iterator[int]:
        """Yield the entries that each of the words finds, in order."""
        rarest = min(candidates, key=lambda each: sum(map(len, each.lists)))
        others = [each for each in candidates if each is not rarest]
        for number in _merged(rarest.lists):
            text = self._texts[number]
            if all(any(start in text for start in each.starts) for each in others):
                yield number

    def _beginning_with(self, start: str) -> _Candidates:
        """Return the entries with a word that begins so."""
        if len(start) <= SHORT:
            return _Candidates([self._short.get(start, array("I"))], [f" {start}"])
        lists: list[Numbers] = []
        for at in range(bisect_left(self._words, start), len(self._words)):
            if not self._words[at].startswith(start):
                break
            lists.append(self._by_word[self._words[at]])
        return _Candidates(lists, [f" {start}"])

    def _similar(self, word: str) -> _Candidates:
        """Return the entries with a word that begins so or differs by one letter."""
        found = self._beginning_with(word)
        if not MIN_FUZZY <= len(word) <= self._longest + 1:
            return found
        others = {other for other in self._one_letter_off(word) if other in self._by_word}
        lists = [self._by_word[other] for other in others]
        starts = [f" {other}" for other in others]
        return _Candidates([*found.lists, *lists], [*found.starts, *starts])

    def _one_letter_off(self, word: str) -> Iterator[str]:
        """Yield a word with one letter missing, added, replaced, or exchanged with the next one.

        Those that begin like no word are left out: where names have thousands of different letters,
        trying each letter at each place would take seconds.
        """
        for at in range(len(word) + 1):
            before, after = word[:at], word[at:]
            first = bisect_left(self._words, before)
            if not self._words[first : first + 1] or not self._words[first].startswith(before):
                return
            if after:
                yield before + after[1:]
            if len(after) > 1:
                yield before + after[1] + after[0] + after[2:]
            for letter in self._letters_after(before, first):
                yield before + letter + after
                if after:
                    yield before + letter + after[1:]

    def _letters_after(self, start: str, at: int) -> Iterator[str]:
        """Yield each letter that follows ``start`` in a word, from the word ``at`` on."""
        at += self._words[at] == start
        while at < len(self._words) and self._words[at].startswith(start):
            letter = self._words[at][len(start)]
            yield letter
            at = bisect_left(self._words, start + chr(ord(letter) + 1), at)


def _merged(lists: Iterable[Iterable[int]]) -> Iterator[int]:
    """Return the numbers of sorted lists in order, each once."""
    return (number for number, _ in groupby(heapq.merge(*lists)))
