r"""Regular expressions of Python that are searched for, as those of RE2 that match as a whole.

Two differences stay: ``\d``, ``\w``, ``\s`` and ``\b`` know ASCII letters and digits only, and
line breaks in a text are like any other character.
"""

from __future__ import annotations

import re
import warnings

from pexpolicy.matching import Pattern, PatternError

ANYTHING = ".*"
_OPEN_REPETITION = re.compile(r"\{,(\d*)\}")


class UncompilableError(ValueError):
    """Python refuses the expression, so it never matched anything."""


def searched(regex: str) -> str:
    """Return the expression that matches a whole text where Python finds ``regex`` somewhere in it.

    Raises ``UncompilableError`` for what Python refuses, and ``PatternError`` for what RE2 cannot
    express.
    """
    matches_empty(regex)
    pattern = _wrapped(_translated(regex))
    Pattern(pattern)
    return pattern


def matches_empty(regex: str) -> bool:
    """Tell whether Python finds the expression in an empty text; raises ``UncompilableError``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.search(regex, "") is not None
    except (re.error, OverflowError, RecursionError) as error:
        raise UncompilableError(str(error)) from None


def _wrapped(regex: str) -> str:
    if regex in ("", ".*", "^.*$", "^", "$"):
        return ANYTHING
    if regex.startswith("^") and regex.endswith("$") and not _is_odd(regex):
        return regex[1:-1]
    if regex.startswith("^") and not _is_odd(regex):
        return f"{regex[1:]}.*"
    if regex.endswith("$") and not _is_odd(regex):
        return f".*{regex[:-1]}"
    return f".*(?:{regex}).*"


def _is_odd(regex: str) -> bool:
    """Tell whether an anchor may belong to a part of the pattern, or be no anchor."""
    return "|" in regex or regex.endswith("\\$") or regex.count("(") != regex.count(")")


def _translated(regex: str) -> str:
    """Write what the two languages spell differently as RE2 spells it."""
    pieces: list[str] = []
    at = 0
    while at < len(regex):
        letter = regex[at]
        if letter == "\\":
            piece = regex[at : at + 2]
            pieces.append("\\z" if piece == "\\Z" else piece)
        elif letter == "[":
            piece = _character_class(regex, at)
            pieces.append(piece)
        elif (found := _OPEN_REPETITION.match(regex, at)) is not None:
            piece = found[0]
            pieces.append(f"{{0,{found[1]}}}")
        else:
            piece = letter
            pieces.append(piece)
        at += len(piece)
    return "".join(pieces)


def _character_class(regex: str, start: int) -> str:
    """Return a class with its brackets, as it is; raises ``PatternError`` for a named one."""
    at = start + 1
    at += regex.startswith("^", at)
    at += regex.startswith("]", at)
    while at < len(regex) and regex[at] != "]":
        if regex.startswith("[:", at):
            msg = "has [: in a class, which Python and RE2 read differently; write the letters"
            raise PatternError(msg)
        at += 2 if regex[at] == "\\" else 1
    return regex[start : at + 1]
