"""Patterns with bounded cost: regular expressions of RE2, and globs.

RE2 never backtracks: its time is at most proportional to the size of the compiled pattern times the
length of the text. Both are limited, so that no dialed alias can delay a call.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from functools import cache
from typing import Any

MAX_PROGRAM = 1_800
"""Maximum size of a compiled pattern, in instructions."""
_TOO_LARGE = (
    f"is too large: it has more than {MAX_PROGRAM:,} instructions or 1,000 repetitions, so a match "
    "could delay a call; write smaller repetitions, or use one_of, prefix or suffix"
)
MAX_WORK = 450_000
"""Maximum instructions times bytes, about 4 ms, of all patterns that are tried on one text of more
than ``MAX_TEXT`` characters.
"""
MAX_TEXT = 250
"""Characters of the longest text that Infinity sends, which every pattern is tested against: no
caller evades a pattern by letters of several bytes. With 4 bytes each the largest takes some 11 ms.
"""
MAX_MEMORY = 1 << 18
"""Maximum memory of RE2 for one pattern, in bytes."""
MAX_REPLACED = 1_000
"""Maximum length of a text in which matches are replaced, in UTF-8 bytes."""
MAX_REPLACEMENTS = 250
"""Maximum number of matches that are replaced in one text."""
MAX_TOTAL = 180_000
"""Size of all patterns that are tried on one text from which on ``MAX_TEXT`` characters may take
more than 50 ms.
"""
_REFERENCE = re.compile(rb"\\\\|\\(\d)|\\")
_INSIDE_CHARACTER = frozenset(bytes((byte,)) for byte in range(0x80, 0xC0))
"""The bytes of UTF-8 that begin no character."""
_NOT_IN_RE2 = (
    "it has no look-around, back-references, conditions or possessive quantifiers: use a second "
    "condition, such as not_regex"
)

_log = logging.getLogger("pexpolicy.matching")


class PatternError(ValueError):
    """A pattern that cannot be used; the text gives the reason."""


class Pattern:
    """A compiled pattern that the whole of a text must match.

    It ignores case unless ``case_sensitive``; a dot matches any character. Raises ``PatternError``
    for a pattern that RE2 does not support or that is too large.
    """

    def __init__(self, source: str, *, case_sensitive: bool = False) -> None:
        self.source = source
        # A pattern that captures is slower, so it is used only for the groups.
        self._test = _compiled(source, case_sensitive=case_sensitive, never_capture=True)
        self.expression = _compiled(source, case_sensitive=case_sensitive, never_capture=False)
        """The compiled pattern of RE2, for texts in UTF-8."""
        both = (self._test, self.expression)
        self.size = max(max(one.programsize, one.reverseprogramsize) for one in both)
        """In instructions."""
        if self.size > MAX_PROGRAM:
            raise PatternError(_TOO_LARGE)
        self.max_bytes = MAX_WORK // max(1, self.size)
        """Maximum length of a text of more than ``MAX_TEXT`` characters, in UTF-8 bytes."""
        named = {number: name.decode() for name, number in self.expression.groupindex.items()}
        self.names = tuple(named.get(n + 1, "") for n in range(self.expression.groups))
        """The names of the groups in order, or an empty text."""

    def matches(self, text: str) -> bool:
        """Return whether the whole text matches; a text that is too long does not."""
        return self._matched(self._test, text) is not None

    def groups(self, text: str) -> tuple[str, ...] | None:
        """Return the text of each group, empty if it took no part; ``None`` without a match."""
        if (match := self._matched(self.expression, text)) is None:
            return None
        return tuple((group or b"").decode("utf-8", "replace") for group in match.groups())

    def _matched(self, expression: Any, text: str) -> Any:
        encoded = text.encode("utf-8", "replace")
        if len(encoded) <= self.max_bytes or len(text) <= MAX_TEXT:
            return expression.fullmatch(encoded)
        log_once(max(self.max_bytes, MAX_TEXT))
        return None


@cache
def log_once(most: int) -> None:
    """Log that a text was longer than ``most`` bytes, for each limit the first one."""
    _log.warning("a text matches no pattern: those of a call take %d bytes together", most)


def limit_together(patterns: Collection[Pattern]) -> str:
    """Limit patterns that are tried on one text by the sum of their work; return a warning if it
    is large even for the longest text that Infinity sends.
    """
    total = sum(pattern.size for pattern in patterns)
    for pattern in patterns:
        pattern.max_bytes = min(pattern.max_bytes, MAX_WORK // max(1, total))
    text = (
        f"the {len(patterns):,} patterns have {total:,} instructions together: a text of "
        f"{MAX_TEXT} characters can delay all calls by more than 50 ms; write smaller repetitions, "
        "or one_of, prefix and suffix"
    )
    return text if total > MAX_TOTAL else ""


def _compiled(source: str, *, case_sensitive: bool, never_capture: bool) -> Any:
    import re2  # noqa: PLC0415 - for configurations with a pattern only

    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_MEMORY
    options.case_sensitive = case_sensitive
    options.dot_nl = True
    options.never_capture = never_capture
    try:
        return re2.compile(source.encode(), options)
    except UnicodeEncodeError:
        raise PatternError("cannot be encoded as UTF-8") from None
    except re2.error as error:
        text = error.args[0]
        text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        if "repetition size" in text or "too large" in text:
            raise PatternError(_TOO_LARGE) from None
        raise PatternError(f"is not a regular expression of RE2: {text}; {_NOT_IN_RE2}") from None


class Replacement:
    r"""A pattern that may be anywhere in a text, and the template that replaces each match.

    In the template ``\1`` is the first group and ``\\`` a backslash. Raises ``PatternError``.
    """

    def __init__(self, source: str, template: str) -> None:
        pattern = Pattern(source)
        self._expression = pattern.expression
        self._max_bytes = min(pattern.max_bytes, MAX_REPLACED)
        self._template = template.encode("utf-8", "replace")
        for found in _REFERENCE.finditer(self._template):
            if found[0] == b"\\":
                raise PatternError("is followed by a single backslash; write two for the character")
            if found[1] is not None and not 0 < int(found[1]) <= len(pattern.names):
                raise PatternError(f"has no group {int(found[1])}: it has {len(pattern.names)}")

    def apply(self, text: str) -> str:
        """Return the text with all matches replaced.

        Raise ``ValueError`` for a text that is too long, or has too many matches.
        """
        encoded = text.encode("utf-8", "replace")
        if len(encoded) > self._max_bytes:
            raise ValueError(f"is longer than {self._max_bytes} bytes")

        def filled(match: Any) -> bytes:
            if encoded[match.start() : match.start() + 1] in _INSIDE_CHARACTER:
                return b""  # an empty match
            return _REFERENCE.sub(
                lambda found: (match.group(int(found[1])) or b"") if found[1] else b"\\",
                self._template,
            )

        replaced, count = self._expression.subn(filled, encoded)
        if count > MAX_REPLACEMENTS:
            raise ValueError(f"has more than {MAX_REPLACEMENTS} matches")
        result: str = replaced.decode("utf-8", "replace")
        return result


def quoted(source: str) -> str:
    """Return a pattern as it is written in TOML, with single backslashes."""
    plain = source.isprintable() and "'" not in source
    return f"'{source}'" if plain else repr(source)


def glob(source: str, *, case_sensitive: bool = False) -> Pattern:
    """Return a pattern in which ``*`` is any text and a group, and ``?`` one character.

    Raise ``PatternError``.
    """
    import re2  # noqa: PLC0415 - as above

    pieces = {"*": "(.*)", "?": "."}
    translated = "".join(pieces.get(letter) or re2.escape(letter) for letter in source)
    return Pattern(translated, case_sensitive=case_sensitive)
