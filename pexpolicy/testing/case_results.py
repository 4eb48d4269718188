"""Results of cases: the differences from what is expected, as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pexpolicy.testing.case_tables import NamedCase
from pexpolicy.text import did_you_mean

NOTHING = "nothing"
MAX_VALUE = 300
"""Characters of a value in a report."""
Shown = Callable[[str, Any], str]
"""Returns the text of a value with the name of its field."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is not as expected, as text without secrets."""

    key: str
    expected: str
    got: str


@dataclass(frozen=True, slots=True)
class Result:
    """A case, the differences from what is expected, and how long it took."""

    case: NamedCase
    differences: tuple[Difference, ...]
    seconds: float
    group: str
    """The class of the case in JUnit."""
    remark: str
    """What is shown of a case that passed."""

    @property
    def passed(self) -> bool:
        """True without a difference."""
        return not self.differences

    def lines(self) -> Iterator[str]:
        """Return what is shown of a case that failed: two lines for each difference."""
        width = max((len(difference.key) for difference in self.differences), default=0)
        for difference in self.differences:
            yield f"{difference.key:<{width}}  expected {difference.expected}"
            yield f"{'':<{width}}  got      {difference.got}"


def below(
    key: str, expected: Any, got: Any, shown: Shown, shown_got: Shown
) -> Iterator[Difference]:
    """Yield the differences between a value and the expected one; other fields are ignored."""
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        for name, value in expected.items():
            if name in got:
                yield from below(f"{key}.{name}", value, got[name], shown, shown_got)
            else:
                guess = did_you_mean(name, list(got))
                yield Difference(f"{key}.{name}", shown(name, value), NOTHING + guess)
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for index, value in enumerate(expected):
            yield from below(f"{key}[{index}]", value, got[index], shown, shown_got)
    elif type(expected) is not type(got) or expected != got:
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
