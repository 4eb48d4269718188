"""Texts and patterns of rules as they are written in a script.

Patterns of rules are those of RE2, which never takes long; those of scripts are Python's. A pattern
is translated where both mean the same, and where Python's cannot take long.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from pexpolicy.text import brief

_TOKEN = re.compile(
    r"""(?P<group>\((?:\?(?::|P?<\w+>)|(?!\?)))
    |(?P<close>\))
    |(?P<many>(?:[*+?]|\{\d{1,3}(?:,\d{0,3})?\})\??)
    |(?P<class>\[\^?\]?(?:\\.|[^\]\\])*\])
    |(?P<escape>\\.)
    |(?P<bar>\|)
    |(?P<start>\^)|(?P<end>\$)|(?P<dot>\.)
    |(?P<letter>[^\\\[\](){}*+?|^$.])""",
    re.VERBOSE | re.DOTALL,
)
_CLASSES = {
    "d": "0123456789",
    "w": "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz",
    "s": "\t\n\f\r ",
}
_CONTROL = {"t": "\t", "n": "\n", "f": "\f", "r": "\r", "v": "\v"}
_FOLDED = {"k": "\N{KELVIN SIGN}", "s": "\N{LATIN SMALL LETTER LONG S}"}
"""Letters outside of ASCII that are equal to one of it without regard to case."""
_LETTERS = (*map(chr, range(0x80)), *"".join(_FOLDED.values()), "\N{LATIN SMALL LETTER AE}")
"""Letters that show whether two classes overlap: the last stands for all that no class lists."""
_UNBOUNDED_WAYS = 140
"""Ways in which one of up to three unbounded repetitions may match. Infinity sends texts of at most
250 characters, which three can divide in 250³/6 ways: about 140³.
"""
_MAX_WAYS = 6_000_000
"""Three unbounded repetitions and one choice of two; trying as many takes less than a second."""


class NotExportedError(Exception):
    """Something that a script cannot do; the text says what."""


def text_literal(text: str) -> str:
    """Return a text as it is written in an expression of a script."""
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    if " " <= letter <= "~":
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) <= 0xFFFF else f"\\U{ord(letter):08x}"  # noqa: PLR2004 - the longest \u


class _Part(NamedTuple):
    """A part of a pattern."""

    text: str
    ways: int = 1
    """The most ways in which it can match, all of which may be tried."""
    is_letter: bool = False
    """True for a single character or a class."""


_Alternatives = list[list[_Part]]


def python_pattern(source: str, *, case_sensitive: bool) -> str:
    """Return the pattern of a rule for ``pex_regex_search``; raises ``NotExportedError``."""
    whole = _joined(_parsed(source, case_sensitive=case_sensitive))
    _check_ways(source, whole.ways)
    return f"(?s)\\A({whole.text})\\Z"


def glob_pattern(source: str, *, case_sensitive: bool) -> str:
    """Return the pattern of a glob; raises ``NotExportedError``."""
    shortest = re.sub(r"\*+", "*", source)
    _check_ways(source, _UNBOUNDED_WAYS ** shortest.count("*"))
    pieces = {"*": ".*", "?": "."}
    made = "".join(pieces.get(letter) or _one(letter, case_sensitive) for letter in shortest)
    return f"(?s)\\A({made})\\Z"


def _check_ways(source: str, ways: int) -> None:
    if ways > _MAX_WAYS:
        raise NotExportedError(
            f"the pattern {brief(source)} may be tried in too many ways, which can take a script "
            "long: at most three repetitions without a limit, and few choices with them"
        )


def _parsed(source: str, *, case_sensitive: bool) -> _Alternatives:
    at, last = 0, ""
    groups: list[_Alternatives] = [[[]]]
    """The open groups, the whole pattern first."""
    while at < len(source):
        found = _TOKEN.match(source, at)
        if found is None:
            raise _refused(source, f"{source[at]!r} at character {at + 1}")
        kind, text, at = str(found.lastgroup), found[0], found.end()
        parts = groups[-1][-1]
        match kind:
            case "group":
                groups.append([[]])
            case "bar":
                groups[-1].append([])
            case "close":
                whole = _joined(groups.pop())
                if not groups:
                    raise _refused(source, "an unpaired )")
                groups[-1][-1].append(_Part(f"(?:{whole.text})", whole.ways))
            case "many":
                if last in ("start", "end", "many") or not parts:
                    raise _refused(source, f"{text} after a position or repetition")
                parts[-1] = _repeated(source, parts[-1], text)
            case _:
                piece = _piece(source, kind, text, case_sensitive=case_sensitive)
                parts.append(_Part(piece, is_letter=kind not in ("start", "end")))
        last = kind
    return groups[0]


def _joined(alternatives: _Alternatives) -> _Part:
    """Return alternatives as one part."""
    text = "|".join("".join(part.text for part in parts) for parts in alternatives)
    if _are_distinct_letters(alternatives):
        return _Part(text)
    return _Part(text, sum(prod(part.ways for part in parts) for parts in alternatives))


def _are_distinct_letters(alternatives: Sequence[Sequence[_Part]]) -> bool:
    """Return whether all are single characters or classes, of which only one can match."""
    if not all(len(parts) == 1 and parts[0].is_letter for parts in alternatives):
        return False
    classes = [re.compile(parts[0].text, re.DOTALL) for parts in alternatives]
    return all(sum(bool(c.match(letter)) for c in classes) <= 1 for letter in _LETTERS)


def _repeated(source: str, part: _Part, many: str) -> _Part:
    """Return a repetition; of a part that can match in several ways, ways would be exponential."""
    text = part.text + many
    if many[0] == "?":
        return _Part(text, part.ways + 1)
    if part.ways > 1:
        raise _refused(source, "a repetition or alternatives inside of a repeated group")
    least, comma, most = many.rstrip("?").strip("{}").partition(",")
    if least in ("*", "+") or (comma and not most):
        return _Part(text, _UNBOUNDED_WAYS)
    return _Part(text, int(most) - int(least) + 1 if comma else 1)


def _piece(source: str, kind: str, text: str, *, case_sensitive: bool) -> str:
    match kind:
        case "class":
            return _class(source, text, case_sensitive=case_sensitive)
        case "escape":
            return _escape(source, text[1], case_sensitive=case_sensitive)
        case "letter":
            return _one(text, case_sensitive)
        case _:
            return {"start": "\\A", "end": "\\Z"}.get(kind, text)


def _one(letter: str, case_sensitive: bool) -> str:  # noqa: FBT001 - private
    return _listed(letter, negated=False, case_sensitive=case_sensitive)


def _escape(source: str, letter: str, *, case_sensitive: bool) -> str:
    if letter.lower() in _CLASSES:
        letters = _CLASSES[letter.lower()]
        return _listed(letters, negated=letter.isupper(), case_sensitive=case_sensitive)
    return _one(_literal(source, letter), case_sensitive)


def _literal(source: str, letter: str) -> str:
    """Return what a backslash and a letter stand for."""
    if letter in _CONTROL:
        return _CONTROL[letter]
    if letter.isalnum():
        raise _refused(source, f"\\{letter}")
    return letter


def _class(source: str, text: str, *, case_sensitive: bool) -> str:
    inner = text[1:-1]
    negated = inner.startswith("^")
    letters: list[str] = []
    items = re.findall(r"\\?.", inner[negated:], re.DOTALL)
    if "[" in items:
        raise _refused(source, "a named class")
    at = 0
    while at < len(items):
        item = items[at]
        name = item[-1]
        if len(item) > 1 and name in _CLASSES:
            letters += _CLASSES[name]
        elif len(item) > 1 and name.lower() in _CLASSES:
            raise _refused(source, f"{item} in a class")
        else:
            first = _literal(source, name) if len(item) > 1 else name
            last = first
            if at + 2 < len(items) and items[at + 1] == "-":
                ending = items[at + 2]
                last = _literal(source, ending[-1]) if len(ending) > 1 else ending
                at += 2
            if not (first <= last and first.isascii() and last.isascii()):
                raise _refused(source, "a class of letters that are not ASCII")
            letters += map(chr, range(ord(first), ord(last) + 1))
        at += 1
    return _listed("".join(letters), negated=negated, case_sensitive=case_sensitive)


def _listed(letters: str, *, negated: bool, case_sensitive: bool) -> str:
    """Return a class of these letters, or one of them alone."""
    if not letters.isascii():
        raise NotExportedError(f"{brief(letters)} in a pattern is not ASCII")
    found = dict.fromkeys(letters)
    if not case_sensitive:
        for letter in letters:
            if letter.isalpha():
                other = letter.lower()
                found.update(dict.fromkeys((other, other.upper(), *_FOLDED.get(other, ""))))
    if len(found) == 1 and not negated:
        return re.escape(letters)
    return f"[{'^' * negated}{''.join(map(re.escape, found))}]"


def _refused(source: str, what: str) -> NotExportedError:
    return NotExportedError(
        f"the pattern {brief(source)} has {what}, whose counterpart in scripts is unsure"
    )
