"""Matching requests: one language of conditions for every plugin.

For the authors of plugins; this module is public, and what lies below it is not::

    from pexpolicy import PluginSettings
    from pexpolicy.matching import When, compile_when


    class Settings(PluginSettings):
        when: When = When()


    condition = compile_when(settings.when)  # once, when the plugin is built
    condition.matches(request)  # for each call
    condition.why(request)  # 'local_alias.prefix = "conf" fails on "lobby@example.com"', or ""

``When`` is a pydantic model for a table of the configuration: everything that can be wrong with it
is named with its key when it is validated, patterns and networks too. ``compile_when`` raises
nothing. A condition never raises, whatever a request holds, and does no I/O; one of the wall clock
is handed in: ``compile_when(when, clock=lambda: 1_800_000_000.0)``.

What patterns captured: ``captured(condition, request)`` is a mapping from ``"1"``, ``"2"`` and
names to texts, for a request that matches; ``group_names(condition)`` is what there may be in it.

Many conditions of which the first counts: ``Index([(condition, value), ...]).first(request)`` is
the value or ``None``, and costs no linear scan where conditions demand exact values, prefixes or
suffixes.

``subject("local_alias.user").read(request)`` gives the values that a condition of that name looks
at.

What a condition is made of, for code that analyses conditions: ``Clause`` is one operator on one
``Subject``, ``All``, ``AnyOf`` and ``NoneOf`` hold the conditions in their ``parts``,
``TimeCondition`` is a time window, and ``required(condition)`` gives the clauses that each matching
request satisfies.
"""

from __future__ import annotations

from pexpolicy.matching.clauses import Clause
from pexpolicy.matching.compile import compile_when
from pexpolicy.matching.conditions import (
    All,
    AnyOf,
    Condition,
    NoneOf,
    TimeCondition,
    captured,
    group_names,
    required,
)
from pexpolicy.matching.index import Index
from pexpolicy.matching.patterns import Pattern, PatternError
from pexpolicy.matching.settings import When
from pexpolicy.matching.subjects import Subject, UnknownSubjectError, subject

__all__ = [
    "All",
    "AnyOf",
    "Clause",
    "Condition",
    "Index",
    "NoneOf",
    "Pattern",
    "PatternError",
    "Subject",
    "TimeCondition",
    "UnknownSubjectError",
    "When",
    "captured",
    "compile_when",
    "group_names",
    "required",
    "subject",
]
