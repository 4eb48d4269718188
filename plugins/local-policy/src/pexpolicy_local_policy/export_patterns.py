"""Texts and patterns of rules as they are written in a script.

Patterns of rules are those of RE2, which never takes long; those of scripts are Python's. A pattern
is translated where both surely mean the same, and where Python's cannot take long.
"""

from __future__ import annotations

import re

from pexpolicy.text import brief

_TOKEN = re.compile(
    r"""(?P<group>\((?:\?:)?|\)\??|\||\^|\$)
    |(?:\[(?P<not>\^?)(?P<class>-?(?:\\[dws]|[a-z]-[a-z]|[A-Z]-[A-Z]|[0-9]-[0-9]|[\w.@+:;/, ])+-?)\]
        |(?P<set>\\[dws])|(?P<dot>\.)|\\(?P<escaped>[^A-Za-z0-9])|(?P<letter>[^\\[\](){}*+?|^$.]))
     (?P<many>[*+?]|\{\d{1,3}\})?(?![*+?{])""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_ITEMS = re.compile(r"\\[dws]|[a-z]-[a-z]|[A-Z]-[A-Z]|[0-9]-[0-9]|.").findall
_SETS = {r"\d": "0-9", r"\w": "0-9A-Z_a-z", r"\s": "\t\n\f\r "}
_PLACES = {"(": "(?:", "^": r"\A", "$": r"\Z"}
_FOLDED = {"k": "\N{KELVIN SIGN}", "s": "\N{LATIN SMALL LETTER LONG S}"}
"""Letters outside of ASCII that are equal to one of it without regard to case."""
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


def python_pattern(source: str, *, case_sensitive: bool) -> str:
    """Return the pattern of a rule for ``pex_regex_search``; raises ``NotExportedError``."""
    made, at, ways = "", 0, 1
    while at < len(source):
        found = _TOKEN.match(source, at)
        if found is None:
            raise NotExportedError(
                f"the pattern {brief(source)} has {source[at:][:8]!r} at character {at + 1}, whose "
                "counterpart in scripts is unsure"
            )
        at = found.end()
        if (part := found["group"]) is not None:
            made += _PLACES.get(part, part)
            ways *= 2 if part in (")?", "|") else 1
            continue
        if found["dot"]:
            made += "."
        elif letter := found["escaped"] or found["letter"]:
            made += _one(letter, case_sensitive=case_sensitive)
        else:
            letters = found["class"] or found["set"]
            made += _class(letters, found["not"] or "", case_sensitive=case_sensitive)
        many = found["many"] or ""
        made += many
        ways *= _UNBOUNDED_WAYS if many in ("*", "+") else 2 if many == "?" else 1
    return _whole(source, made, ways)


def glob_pattern(source: str, *, case_sensitive: bool) -> str:
    """Return the pattern of a glob; raises ``NotExportedError``."""
    shortest = re.sub(r"\*+", "*", source)
    pieces = {"*": ".*", "?": "."}
    made = (pieces.get(c) or _one(c, case_sensitive=case_sensitive) for c in shortest)
    return _whole(source, "".join(made), _UNBOUNDED_WAYS ** shortest.count("*"))


def _whole(source: str, made: str, ways: int) -> str:
    if ways > _MAX_WAYS:
        raise NotExportedError(
            f"the pattern {brief(source)} may be tried in too many ways, which can take a script "
            "long: at most three repetitions without a limit, and few choices with them"
        )
    return f"(?s)\\A(?:{made})\\Z"


def _one(letter: str, *, case_sensitive: bool) -> str:
    if not letter.isascii():
        raise NotExportedError(f"{brief(letter)} in a pattern is not ASCII")
    if case_sensitive or not letter.isalpha():
        return re.escape(letter)
    lower = letter.lower()
    return f"[{lower}{lower.upper()}{_FOLDED.get(lower, '')}]"


def _class(letters: str, negation: str, *, case_sensitive: bool) -> str:
    items = (
        _SETS.get(item) or (re.escape(item) if len(item) == 1 else item) for item in _ITEMS(letters)
    )
    made = "".join(items)
    if not case_sensitive:
        has = re.compile(f"[{made}]", re.IGNORECASE | re.ASCII).match
        made += made.swapcase() + "".join(_FOLDED[letter] for letter in _FOLDED if has(letter))
    return f"[{negation}{made}]"
