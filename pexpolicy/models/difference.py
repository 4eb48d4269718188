"""The difference of two decisions: the fields that differ, as values and as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec import UNSET

from pexpolicy.text import did_you_mean

NOTHING = "nothing"
MAX_VALUE = 300
"""Characters of a value in a text."""
Changes = dict[str, dict[str, Any]]
"""Each changed field, ``from`` what ``to`` what; a side without the field is left out."""


def is_same(before: Any, after: Any) -> bool:
    """Return whether two values are equal and of one type, at any depth: ``True`` is not 1."""
    if type(before) is not type(after) or before != after:
        return False
    if isinstance(before, dict):
        return all(is_same(value, after[name]) for name, value in before.items())
    return not isinstance(before, list) or all(map(is_same, before, after))


def changed_fields(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Return each field that differs, with its old and its new value; ``UNSET`` for none."""
    pairs = {
        name: (before.get(name, UNSET), after.get(name, UNSET)) for name in {**before, **after}
    }
    return {name: pair for name, pair in pairs.items() if not is_same(*pair)}


def add_change(changes: Changes, name: str, before: Any, after: Any) -> None:
    """Add a field if its two values differ; ``UNSET`` is that of a side without the field."""
    if not is_same(before, after):
        sides = (("from", before), ("to", after))
        changes[name] = {side: value for side, value in sides if value is not UNSET}


def describe_changes(changes: Changes) -> str:
    """Return changes as one line of text, with ``nothing`` for a side without the field."""
    return "; ".join(
        f"{name} from {_text(change, 'from')} to {_text(change, 'to')}"
        for name, change in changes.items()
    )


def _text(change: dict[str, Any], side: str) -> str:
    value = change.get(side, NOTHING)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class Difference(NamedTuple):
    """One value that is not as expected, as text without secrets."""

    key: str
    expected: str
    got: str


def unmet(
    key: str,
    expected: Any,
    got: Any,
    shown: Callable[[str, Any], str],
    shown_got: Callable[[str, Any], str],
) -> Iterator[Difference]:
    """Yield where a value differs from the expected one; fields that are not expected may be any.

    ``shown`` and ``shown_got`` return the text of a value with the name of its field.
    """
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        for name, value in expected.items():
            if name in got:
                yield from unmet(f"{key}.{name}", value, got[name], shown, shown_got)
            else:
                guess = did_you_mean(name, list(got))
                yield Difference(f"{key}.{name}", shown(name, value), NOTHING + guess)
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for index, (value, one) in enumerate(zip(expected, got, strict=True)):
            yield from unmet(f"{key}[{index}]", value, one, shown, shown_got)
    elif not is_same(expected, got):
        name = key.rpartition(".")[2]
        yield Difference(key, shown(name, expected), shown_got(name, got))


def one_line(value: Any, hidden: Collection[str] = (), mark: str = "") -> str:
    """Return a value on one line, with ``mark`` for each field named in ``hidden``."""
    if value is None:
        return NOTHING
    text = json.dumps(_marked(value, hidden, mark), ensure_ascii=False)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}… ({len(text)} characters)"


def _marked(value: Any, hidden: Collection[str], mark: str) -> Any:
    if isinstance(value, Mapping):
        return {k: mark if k in hidden else _marked(v, hidden, mark) for k, v in value.items()}
    return [_marked(item, hidden, mark) for item in value] if isinstance(value, list) else value
