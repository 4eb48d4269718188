"""Changes as cases of ``pexpolicy test``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pexpolicy.replay.result import Group, ReplayResult
from pexpolicy.text import printable

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def as_cases(result: ReplayResult) -> str:
    """Return a case for each selected group, which the new configuration passes.

    What is secret is expected in no case.
    """
    lines = [f"# Calls that {printable(result.config)} answers in another way than before."]
    for number, group in enumerate(result.groups, 1):
        lines += ["", *_case(number, group)]
    return "\n".join(lines) + "\n"


def _case(number: int, group: Group) -> Iterator[str]:
    key, example = group.key, group.example
    name = f"replay {number}: {key.old_action} to {key.new_action}, {', '.join(key.fields)}"
    yield f"# {group.count} calls; before: {printable(_before(group))}"
    yield "[[case]]"
    yield f"name = {_value(name)}"
    yield f"url = {_value(example.url)}"
    if example.at is not None:
        yield f"at = {_value(datetime.fromtimestamp(example.at, UTC).isoformat())}"
    if example.peer is not None:
        yield f"peer = {_value(example.peer)}"
    for field, value in example.expected.items():
        if value is not None:
            yield f"expect.{field} = {_value(value)}"


def _before(group: Group) -> str:
    key = group.key
    reason = f", {key.old_reason}" if key.old_reason else ""
    return f"{key.old_action} by {key.old_by}{reason}" if key.old_by else key.old_action


def _value(value: Any) -> str:
    """Return a value in TOML, which has no null."""
    if isinstance(value, Mapping):
        pairs = (f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None)
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value if item is not None)}]"
    # In ASCII, JSON writes characters beyond 16 bits as two surrogates, which TOML forbids.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else json.dumps(name, ensure_ascii=True)
