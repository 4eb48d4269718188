"""Patterns whose cost is bounded: regular expressions by RE2, and globs made of them.

RE2 never backtracks: its time is the size of the compiled pattern times the length of the text, at
most. Both are bounded here, so that no alias that a stranger dials can hold up a call.
"""

from __future__ import annotations

import re
from typing import Any

MAX_PROGRAM = 1_800
"""Instructions of a compiled pattern; a larger one is refused."""
MAX_WORK = 450_000
"""Instructions times bytes that one match may cost, at most about 4 ms. Even the largest pattern
takes 250 bytes, and Infinity sends no more characters than that.
"""
MAX_MEMORY = 1 << 18
"""Bytes that RE2 may use for one pattern."""
_PYTHON_ONLY = re.compile(r"\(\?(?:[=!]|<[=!])|\(\?\(|\(\?>|\(\?P=|\\[1-9]|[*+?}]\+")


class PatternError(ValueError):
    """A pattern that is not taken; the text says why."""


class Pattern:
    """A compiled pattern that the whole of a text must match.

    Letters are compared without regard to case unless ``case_sensitive``; a dot stands for any
    character. Raises ``PatternError`` for a pattern that RE2 does not know or that is too large.
    """

    def __init__(self, written: str, *, case_sensitive: bool = False) -> None:
        self.written = written
        self._case_sensitive = case_sensitive
        # One that captures is slower, so it is asked only for what was captured.
        self._test = self._compiled(never_capture=True)
        self._capturing = self._compiled(never_capture=False)
        sizes = (_size(self._test), _size(self._capturing))
        if max(sizes) > MAX_PROGRAM:
            raise PatternError(_TOO_LARGE)
        self.longest = MAX_WORK // max(sizes)
        """Bytes of the longest text that can match."""
        named = {number: name.decode() for name, number in self._capturing.groupindex.items()}
        self.names = tuple(named.get(n + 1, "") for n in range(self._capturing.groups))
        """The names of the groups in order, empty for one without a name."""

    def matches(self, text: str) -> bool:
        """True when the whole text matches. A text that would cost too much does not."""
        encoded = text.encode("utf-8", "replace")
        return len(encoded) <= self.longest and self._test.fullmatch(encoded) is not None

    def groups(self, text: str) -> tuple[str, ...] | None:
        """What each group holds, empty for one that took no part; ``None`` without a match."""
        encoded = text.encode("utf-8", "replace")
        if len(encoded) > self.longest or (match := self._capturing.fullmatch(encoded)) is None:
            return None
        return tuple((group or b"").decode("utf-8", "replace") for group in match.groups())

    def _compiled(self, *, never_capture: bool) -> Any:
        import re2  # noqa: PLC0415 - for configurations with a pattern only

        options = re2.Options()
        options.log_errors = False
        options.max_mem = MAX_MEMORY
        options.case_sensitive = self._case_sensitive
        options.dot_nl = True
        options.never_capture = never_capture
        try:
            compiled = re2.compile(self.written.encode(), options)
        except re2.error as error:
            raise PatternError(_refusal(self.written, error)) from None
        except UnicodeEncodeError:
            msg = "is no text that can be encoded as UTF-8"
            raise PatternError(msg) from None
        return compiled


def quoted(written: str) -> str:
    """A pattern as it stands in a file, without a second backslash before each."""
    plain = written.isprintable() and "'" not in written
    return f"'{written}'" if plain else repr(written)


def _size(compiled: Any) -> int:
    size: int = max(compiled.programsize, compiled.reverseprogramsize, 1)
    return size


_TOO_LARGE = (
    "is too large: matching it could hold up a call; write smaller repetitions, or one_of, "
    "prefix or suffix"
)


def _refusal(written: str, error: Exception) -> str:
    said = error.args[0]
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    if "too large" in text or "repetition size" in text:
        return _TOO_LARGE
    hint = ""
    if _PYTHON_ONLY.search(written):
        hint = (
            "; RE2 has no look-around, back-references, conditions or possessive quantifiers: use "
            "a second condition, such as not_regex"
        )
    return f"is no regular expression of RE2: {text}{hint}"


def glob(written: str, *, case_sensitive: bool = False) -> Pattern:
    """``*`` stands for any characters and ``?`` for one; each ``*`` is a group.

    Raises ``PatternError``.
    """
    import re2  # noqa: PLC0415 - as above

    pieces = {"*": "(.*)", "?": "."}
    translated = "".join(pieces.get(letter) or re2.escape(letter) for letter in written)
    return Pattern(translated, case_sensitive=case_sensitive)
