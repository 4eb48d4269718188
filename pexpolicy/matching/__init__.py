"""Conditions on requests: one language for every plugin.

This module is public, for authors of plugins; its submodules are not::

    from pexpolicy import PluginSettings
    from pexpolicy.matching import When, compile_when


    class Settings(PluginSettings):
        when: When = When()


    condition = compile_when(settings.when)  # once, when the plugin is built
    condition.matches(request)  # for each call
    condition.why(request)  # "local_alias.prefix = 'conf': no match for 'lobby'", or ""

``When`` is a pydantic model for a table of the configuration. Its validation names every error with
its key, those of patterns and networks too, so ``compile_when`` raises nothing. A condition never
raises, whatever a request holds, and does no I/O; one with ``in_source`` raises what its list
raises, and is refused unless the context of the validation has the names of ``VALUE_LISTS``, and
``compile_when`` a function that returns them (``find_list``). Tests pass a clock:
``compile_when(when, clock=lambda: 1_800_000_000.0)``.

``captures(condition, request)`` maps ``"1"``, ``"2"`` and the names of groups to the texts that
patterns captured from a request that matches. ``group_names(condition)`` is the set of its keys.

``Index([(condition, value), ...]).first(request)`` returns the value of the first condition that
matches, or ``None``. It does not scan conditions that require exact values, prefixes or suffixes.

``subject("local_alias.user").read(request)`` returns the values that a condition of that name
tests. ``ValueOf`` is the table ``{ value_of = "KEY", regex = "..." }``, and ``compile_value_of``
returns what reads the value. ``live_values().read`` is what a plugin sets in its constructor that
knows the values of ``live.tenant`` and the like.

Code that analyses conditions finds ``Clause``, one operator on one ``Subject``; ``All``, ``AnyOf``
and ``NoneOf`` with their ``parts``; ``Comparison``, ``InSource`` and ``TimeCondition``.
``required(condition)`` yields the clauses that every matching request satisfies, and
``pitfalls(condition)`` warnings about conditions that match nothing, for ``config_warnings``;
``flattened(condition)`` yields the condition and all that are inside of it.
``why_never_equal(subject, text)`` is empty where a request may have a text as its value.
"""

from __future__ import annotations

from pexpolicy.matching.conditions import (
    All,
    AnyOf,
    Clause,
    Comparison,
    Condition,
    Index,
    InSource,
    NoneOf,
    OtherValue,
    TimeCondition,
    ValueList,
    captures,
    flattened,
    group_names,
    pitfalls,
    required,
)
from pexpolicy.matching.patterns import Pattern, PatternError, Replacement
from pexpolicy.matching.subjects import Subject, UnknownSubjectError, subject, why_never_equal
from pexpolicy.matching.when import (
    OR_VALUE_OF,
    VALUE_LISTS,
    ValueOf,
    When,
    compile_value_of,
    compile_when,
)
from pexpolicy.models.context import live_values

__all__ = [
    "OR_VALUE_OF",
    "VALUE_LISTS",
    "All",
    "AnyOf",
    "Clause",
    "Comparison",
    "Condition",
    "InSource",
    "Index",
    "NoneOf",
    "OtherValue",
    "Pattern",
    "PatternError",
    "Replacement",
    "Subject",
    "TimeCondition",
    "UnknownSubjectError",
    "ValueList",
    "ValueOf",
    "When",
    "captures",
    "compile_value_of",
    "compile_when",
    "flattened",
    "group_names",
    "live_values",
    "pitfalls",
    "required",
    "subject",
    "why_never_equal",
]
