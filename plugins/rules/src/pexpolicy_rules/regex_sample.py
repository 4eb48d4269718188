"""Short sample texts that match a regular expression."""

from __future__ import annotations

_CLASSES = {"d": "1", "D": "x", "w": "a", "W": "-", "s": " ", "S": "x"}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r"}
_ZERO_WIDTH = frozenset("AzbBZ")
ANY = "x"
MAX_LENGTH = 300
"""Maximum length of a sample, in characters."""


def sample(pattern: str) -> str:
    """Return a text that the pattern probably matches; the caller must verify it."""
    try:
        return _RegexSampler(pattern).alternatives()[:MAX_LENGTH]
    except RecursionError:
        return ""


class _RegexSampler:
    """A parser that reads a pattern once from left to right."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def alternatives(self) -> str:
        """Return a text for the first alternative, and read up to the end of the group."""
        first: str | None = None
        while True:
            branch = self._branch()
            first = branch if first is None else first
            if not self._take("|"):
                return first

    def _branch(self) -> str:
        text = ""
        while self._at < len(self._pattern) and self._pattern[self._at] not in "|)":
            text += self._repeated(self._atom())
        return text

    def _take(self, expected: str) -> bool:
        if self._pattern.startswith(expected, self._at):
            self._at += len(expected)
            return True
        return False

    def _next(self) -> str:
        letter = self._pattern[self._at : self._at + 1]
        self._at += 1
        return letter

    def _atom(self) -> str:
        letter = self._next()
        match letter:
            case "(":
                return self._group()
            case "[":
                return self._set()
            case "\\":
                return self._escape()
            case "^" | "$":
                return ""
            case ".":
                return ANY
            case _:
                return letter

    def _group(self) -> str:
        if self._take("?P<") or self._take("?<"):
            self._at = self._pattern.find(">", self._at) + 1
        elif self._take("?"):
            while self._at < len(self._pattern) and self._pattern[self._at] not in ":)":
                self._at += 1
            self._take(":")
        text = self.alternatives()
        self._take(")")
        return text

    def _set(self) -> str:
        negated = self._take("^")
        members = ""
        while self._at < len(self._pattern) and (not members or self._pattern[self._at] != "]"):
            end = self._pattern.find(":]", self._at)
            if end > 0 and self._take("[:"):
                self._at = end + 2
                members += "a"
            else:
                letter = self._next()
                members += self._escape() if letter == "\\" else letter
        self._take("]")
        if not negated:
            return members[:1]
        return next((letter for letter in "xa1 -@" if letter not in members), "é")

    def _escape(self) -> str:
        letter = self._next()
        if letter in "pP":
            if self._take("{"):
                self._at = self._pattern.find("}", self._at) + 1
            else:
                self._at += 1
            return "a"
        if letter == "Q":
            end = self._pattern.find("\\E", self._at)
            quoted = self._pattern[self._at : end if end >= 0 else None]
            self._at = end + 2 if end >= 0 else len(self._pattern)
            return quoted
        if letter in _ZERO_WIDTH:
            return ""
        return _CLASSES.get(letter) or _CONTROLS.get(letter) or letter

    def _repeated(self, text: str) -> str:
        least = 1
        if self._take("*") or self._take("?"):
            least = 0
        elif self._take("+"):
            least = 1
        elif self._pattern.startswith("{", self._at):
            end = self._pattern.find("}", self._at)
            digits = self._pattern[self._at + 1 : end].partition(",")[0]
            if end > 0 and digits.isdigit():
                least = min(int(digits), MAX_LENGTH)
                self._at = end + 1
        self._take("?")
        return text * least
