"""Failures of sources."""

from __future__ import annotations

import os

MAX_TEXT = 200
"""Characters of a message."""


class SourceError(Exception):
    """A source gave no answer; the text has the reason, without credentials."""


class SourceUnavailableError(SourceError):
    """The source is down, does not answer in time, or refuses everything."""


class QueryError(SourceError):
    """The source refuses this query, or these parameters."""


def describe(error: Exception) -> str:
    """Return what a network error is: the messages of libraries name addresses, or nothing."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number)
    return one_line(str(error)) or type(error).__name__


def one_line(text: str) -> str:
    """Return a message of a library in one line of limited length."""
    return " ".join(text.split())[:MAX_TEXT]
