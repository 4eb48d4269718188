"""Extra fields and values of Infinity that this release does not know and an operator lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from pexpolicy.models.contract import Contract
from pexpolicy.models.messages import alternatives
from pexpolicy.text import brief


@dataclass(frozen=True, slots=True)
class Extras:
    """The extras that ``[infinity]`` of the configuration allows, always with a warning.

    ``fields`` are names at any depth, ``values`` further words of an enumerated field.
    """

    fields: frozenset[str] = frozenset()
    values: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.fields or self.values)

    def has(self, name: str, value: object) -> bool:
        """True for a word that is listed for this field."""
        # A subclass of a plugin may run its own code where it is hashed or compared.
        return type(value) is str and value in self.values.get(name, ())

    def plain(self, model: Contract, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields without extra fields, and with known words instead of extra ones.

        The rest is checked as usual.
        """
        if not self:
            return dict(fields)
        made: dict[str, Any] = {}
        for name, value in fields.items():
            inner = model.nested_models.get(name)
            if self._is_word(model, name, value):
                if model.defaults[name] is ...:
                    made[name] = get_args(_words(model, name))[0]
            elif name in model.names or name not in self.fields:
                made[name] = self._plain_inside(inner, value)
        return made

    def _plain_inside(self, model: Contract | None, value: Any) -> Any:
        if model is None:
            return value
        if type(value) is list:
            return [self._plain_inside(model, item) for item in value]
        return self.plain(model, value) if type(value) is dict else value

    def warnings(
        self, model: Contract, fields: Mapping[str, Any], place: str = ""
    ) -> Iterator[str]:
        """Yield a warning for each extra field and value."""
        for name, value in fields.items():
            inner = model.nested_models.get(name)
            if self._is_word(model, name, value):
                yield f"{place}{name}: {brief(value)} is sent as [infinity] extra_values lists it"
            elif name not in model.names and name in self.fields:
                yield f"{place}{name}: is sent as [infinity] extra_fields lists it"
            elif inner is not None:
                for number, item in enumerate(value if isinstance(value, list) else ()):
                    if isinstance(item, dict):
                        yield from self.warnings(inner, item, f"{place}{name}[{number}].")
                if isinstance(value, dict):
                    yield from self.warnings(inner, value, f"{place}{name}.")

    def _is_word(self, model: Contract, name: str, value: object) -> bool:
        words = _words(model, name) if self.has(name, value) else None
        return words is not None and value not in get_args(words)


NO_EXTRAS = Extras()


def enumerated_fields(model: Contract) -> set[str]:
    """Return the names of the fields with a fixed set of values, those of inner objects too."""
    names = {name for name in model.hints if _words(model, name) is not None}
    return names.union(*map(enumerated_fields, {*model.nested_models.values()}))


def _words(model: Contract, name: str) -> Any:
    """Return the type of an enumerated field, or ``None``."""
    for kind in alternatives(model.hints.get(name)):
        if get_origin(kind) is Literal:
            return kind
    return None
