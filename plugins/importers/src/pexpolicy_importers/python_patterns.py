r"""Translation of regular expressions that Python searches for to RE2 patterns for a whole text.

Two differences remain: ``\d``, ``\w``, ``\s`` and ``\b`` know ASCII letters and digits only, and
line breaks in a text are like any other character.
"""

from __future__ import annotations

import re
import warnings

from pexpolicy.matching import Pattern, PatternError

ANYTHING = ".*"
_TOKEN = re.compile(r"\\.?|\[\^?\]?(?:\\.|[^\]\\])*\]?|\{,(\d*)\}|.", re.DOTALL)
"""An escape, a character class, a repetition without a minimum, or one character."""
_ESCAPE = re.compile(r"\\.", re.DOTALL)


class UncompilableError(ValueError):
    """An expression that Python rejects, and which therefore never matched."""


def searched(regex: str) -> str:
    """Return a pattern that matches a whole text if Python finds ``regex`` anywhere in it.

    Raise ``UncompilableError`` for what Python rejects, and ``PatternError`` for what RE2 cannot
    express.
    """
    matches_empty(regex)
    pattern = _anchored(_TOKEN.sub(_translated, regex))
    Pattern(pattern)
    return pattern


def matches_empty(regex: str) -> bool:
    """Return whether Python finds the expression in an empty text; raise ``UncompilableError``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.search(regex, "") is not None
    except (re.error, OverflowError, RecursionError) as error:
        raise UncompilableError(str(error)) from None


def _anchored(regex: str) -> str:
    if regex in ("", ".*", "^.*$", "^", "$"):
        return ANYTHING
    # An anchor may belong to a part of the pattern, or be a character.
    unclear = "|" in regex or regex.endswith("\\$") or regex.count("(") != regex.count(")")
    starts, ends = regex.startswith("^"), regex.endswith("$")
    if unclear or not (starts or ends):
        return f".*(?:{regex}).*"
    inner = regex[starts : len(regex) - ends]
    # A pattern of a rule is never an empty text.
    return f"{'' if starts else '.*'}{inner or '()'}{'' if ends else '.*'}"


def _translated(token: re.Match[str]) -> str:
    """Return a token as RE2 spells it."""
    if token[0].startswith("[") and "[:" in _ESCAPE.sub("-", token[0][1:]):
        msg = "has [: in a class, which Python and RE2 read differently; write the letters"
        raise PatternError(msg)
    if token[1] is not None:
        return f"{{0,{token[1]}}}"
    return r"\z" if token[0] == r"\Z" else token[0]
