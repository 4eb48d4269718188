"""Texts and patterns of rules as they are written in a script.

Patterns of rules are those of RE2, which never takes long; those of scripts are Python's. A pattern
is translated where both mean the same, and where Python's cannot take long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pexpolicy import brief

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


def python_pattern(source: str, *, case_sensitive: bool) -> str:
    """Return the pattern of a rule for ``pex_regex_search``; raises ``NotExportedError``."""
    return f"(?s)\\A({''.join(_pieces(source, case_sensitive=case_sensitive))})\\Z"


def glob_pattern(source: str, *, case_sensitive: bool) -> str:
    """Return the pattern of a glob; raises ``NotExportedError``."""
    pieces = {"*": ".*", "?": "."}
    made = "".join(pieces.get(letter) or _one(letter, case_sensitive) for letter in source)
    return f"(?s)\\A({made})\\Z"


def _pieces(source: str, *, case_sensitive: bool) -> Iterator[str]:
    at, repeats, last = 0, [False], ""
    was_repeating = False
    """Whether the last piece is a group that repeats a part of itself."""
    while at < len(source):
        found = _TOKEN.match(source, at)
        if found is None:
            raise _refused(source, f"{source[at]!r} at character {at + 1}")
        kind, text, at = found.lastgroup, found[0], found.end()
        if kind == "many" and was_repeating:
            raise _refused(source, "a repetition inside of a repeated group")
        if kind == "many" and last in ("start", "end"):
            raise _refused(source, f"{text} after a position")
        last = str(kind)
        was_repeating = kind == "close" and repeats[-1]
        if kind == "group":
            repeats.append(False)
        elif kind == "close":
            repeats.pop()
            if not repeats:
                raise _refused(source, "an unpaired )")
        repeats[-1] = repeats[-1] or was_repeating or kind == "many"
        yield _piece(source, str(kind), text, case_sensitive=case_sensitive)


def _piece(source: str, kind: str, text: str, *, case_sensitive: bool) -> str:
    match kind:
        case "class":
            return _class(source, text, case_sensitive=case_sensitive)
        case "escape":
            return _escape(source, text[1], case_sensitive=case_sensitive)
        case "letter":
            return _one(text, case_sensitive)
        case _:
            return {"group": "(?:", "start": "\\A", "end": "\\Z"}.get(kind, text)


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
