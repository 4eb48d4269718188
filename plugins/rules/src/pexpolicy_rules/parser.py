"""Parser of one rule that reports all problems at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from pexpolicy import Key
from pexpolicy.config.toml_tables import validated
from pexpolicy.matching import VALUE_LISTS
from pexpolicy_rules.settings import Rule

Table = Mapping[str, Any]
_PLACEHOLDER = re.compile(r"\{\s*[A-Za-z_][\w.~-]*\s*\}")
_NAMED = re.compile(r"\(\?P?<(\w+)>")


def parse(
    written: Table, root: Path, lists: Collection[str] = ()
) -> tuple[Rule | None, list[tuple[Key, str]]]:
    """Return the rule of a table, and the problems of the table.

    ``lists`` are the names that ``in_source`` may use.

    If there are problems, the rule is that of the valid keys, so that it can be checked further, or
    ``None`` if they are too few.
    """
    context = {"root": root, VALUE_LISTS: lists}
    rule, problems = validated(written, Rule, context)
    issues = [(problem.key, problem.text) for problem in problems]
    if problems:
        rest = _without(written, [problem.key for problem in problems])
        rule, _ = validated(rest, Rule, context)
    return rule, issues


def as_written(key: Key, written: Any) -> Key:
    """Return the key without the steps of a short form: ``then = "x"`` has no ``action``."""
    kept: list[str | int] = []
    for number, step in enumerate(key):
        if isinstance(written, dict):
            kept.append(step)
            if step not in written:
                return (*kept, *key[number + 1 :])
            written = written[step]
        elif isinstance(written, list):
            if isinstance(step, int):
                kept.append(step)
                written = written[step]
        else:
            break
    return tuple(kept)


def possible_groups(when: Any) -> Collection[str]:
    """Return all groups that an invalid condition might capture; some may not exist."""
    text = str(when)
    captures = "(" in text or "*" in text
    return {*_NAMED.findall(text), *(map(str, range(1, 100)) if captures else ())}


def literal_placeholders(when: Any, key: Key = ()) -> Iterator[tuple[Key, str]]:
    """Yield operands that look like placeholders, each with its key: in ``when`` they are text.

    Patterns are skipped, as braces are repetitions there.
    """
    if isinstance(when, dict):
        for name, value in when.items():
            if not str(name).endswith("regex"):
                yield from literal_placeholders(value, (*key, name))
    elif isinstance(when, list):
        for number, value in enumerate(when):
            yield from literal_placeholders(value, (*key, number))
    elif isinstance(when, str) and _PLACEHOLDER.fullmatch(when):
        yield key, when


def _without(written: Table, keys: list[Key]) -> dict[str, Any]:
    rest = deepcopy(dict(written))
    for key in keys:
        top = key[0] if key else ""
        if top == "name":
            rest["name"] = "?"
        elif top == "endpoint" and isinstance(rest.get("endpoint"), list):
            known = [text for at, text in enumerate(written["endpoint"]) if key != (top, at)]
            rest["endpoint"] = [text for text in rest["endpoint"] if text in known]
        elif top == "then" and len(key) > 1 and isinstance(rest.get("then"), dict):
            rest["then"].pop(key[1], None)
        else:
            rest.pop(str(top), None)
    return rest
