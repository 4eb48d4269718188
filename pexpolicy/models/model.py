"""The base class of results: fields that are rendered, and validated as rendered.

A class lists its fields with their types. When an instance is made, the fields are written as JSON,
and that JSON is checked against the types and the rules of the class. The instance keeps the JSON
only. So the checked bytes are the bytes that are sent, whatever happens to the fields later.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    NoReturn,
    Self,
    cast,
    dataclass_transform,
    get_origin,
    get_type_hints,
)

import msgspec
import orjson
from msgspec import UNSET, UnsetType

from pexpolicy.models.contract import NO_EXTRAS, Contract, Extras, ModelBase, contract_of, render
from pexpolicy.models.errors import DecisionError, ValidationIssue
from pexpolicy.models.validation import broken_rules, check_in_detail, find_issues, refusal

Unset = UnsetType

assign = object.__setattr__
"""Sets an attribute of a frozen class; for its own constructors only."""


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Model(ModelBase):
    """Fields under their names on the wire, rendered and checked when the instance is made.

    Raise ``DecisionError`` for a field that does not exist, is missing or has a wrong type, and for
    a broken rule that Pexip documents. Other broken rules become ``warnings``.
    """

    __slots__ = ("warnings",)

    _contract = Contract()
    _decode: ClassVar[Callable[[bytes], Any]]

    result: bytes
    """The fields in JSON, as they are sent."""
    warnings: tuple[str, ...]
    """Broken rules that may invalidate the answer; the sources disagree on them."""

    def __init__(self, /, **fields: Any) -> None:
        self._check(fields)

    def __init_subclass__(cls, **declared: Any) -> None:
        """Make the contract of the annotations, and of what the first line of the class declares:
        ``class Reject(Decision, fields=…)``.
        """
        super().__init_subclass__()
        hints = {
            name: hint
            for name, hint in get_type_hints(cls, include_extras=True).items()
            if get_origin(hint) is not ClassVar and name not in _OWN_ATTRIBUTES
        }
        defaults = {n: d for base in cls.__bases__ for n, d in contract_of(base).defaults.items()}
        defaults |= {name: vars(cls).get(name, ...) for name in cls.__annotations__}
        contract = cls._contract = dataclasses.replace(
            cls._contract,
            model=cls,
            hints=hints,
            defaults={name: defaults[name] for name in hints},
            **declared,
        )
        cls._decode = msgspec.json.Decoder(contract.wire).decode
        for name in contract.names & vars(cls).keys():
            delattr(cls, name)

    @classmethod
    def from_result(
        cls, fields: Mapping[str, Any], *, extras: Extras = NO_EXTRAS, strict: bool = False
    ) -> Self:
        """Make an instance from a dictionary; keep unknown fields, with a warning.

        Infinity appears to tolerate unknown fields (reported), and its releases add new ones. Where
        ``strict`` is true, only those are accepted that ``extras`` lists.
        """
        checked = cls.__new__(cls)
        checked._check(dict(fields), extras, known_only=strict or cls._contract.forbid_unknown)  # noqa: SLF001 - its own
        return checked

    @classmethod
    def find_issues(
        cls, fields: Mapping[str, Any], extras: Extras = NO_EXTRAS
    ) -> list[ValidationIssue]:
        """Return every issue of these fields; making an instance raises the first."""
        return list(find_issues(cls._contract, fields, extras))

    def _check(
        self, fields: dict[str, Any], extras: Extras = NO_EXTRAS, *, known_only: bool = True
    ) -> None:
        cls = type(self)
        for name, value in cls._contract.constants.items():
            fields.setdefault(name, value)
        warnings: tuple[str, ...] = ()
        try:
            result = render(fields)
            sent = cls._decode(result)
        except Exception:  # noqa: BLE001 - values of a plugin may raise anything
            given = {name: value for name, value in fields.items() if value is not UNSET}
            if len(given) < len(fields):
                Model._check(self, given, extras, known_only=known_only)
                return
            result, sent, warnings = check_in_detail(
                cls._contract, fields, extras, known_only=known_only
            )
        warnings += tuple(cls._warnings(sent, fields))
        # orjson returns part of a larger block, which would stay allocated for the life of a room:
        # 4 KB each. Joining makes a copy of the exact size.
        assign(self, "result", b"".join((result, b"")))
        assign(self, "warnings", warnings)

    @classmethod
    def _warnings(cls, sent: Any, names: Collection[str]) -> Iterator[str]:
        """Yield warnings of broken rules; raise ``DecisionError`` for a documented one."""
        for place, rule, value in broken_rules(cls._contract, sent, names):
            if rule.refused:
                where = place + rule.field
                raise DecisionError(refusal(cls._contract, where, value, rule.text, rule.mark))
            yield place + rule.warning

    if not TYPE_CHECKING:  # a type checker knows the fields, and reports others

        def __getattr__(self, name: str) -> Any:
            if name not in self._contract.names:
                raise AttributeError(f"{type(self).__name__} has no field {name!r}")
            try:
                sent = msgspec.json.decode(self.result, type=self._contract.lenient)
            except msgspec.ValidationError:  # an extra value that the operator lists
                return self.set_fields().get(name, UNSET)
            return getattr(sent, name)

    def __setattr__(self, name: str, value: object = None) -> NoReturn:
        hint = f"write replace({name}=...), which returns" if hasattr(self, "replace") else "make"
        raise AttributeError(f"{type(self).__name__} is frozen: {hint} a new one")

    __delattr__ = __setattr__

    def __copy__(self, _: object = None) -> Self:
        return self

    __deepcopy__ = __copy__

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return False
        mine, theirs = self.result, cast("Self", other).result
        # The order of the fields counts neither for Infinity nor here.
        return mine == theirs or (
            len(mine) == len(theirs) and orjson.loads(mine) == orjson.loads(theirs)
        )

    def __hash__(self) -> int:
        return hash((type(self), sum(self.result)))

    def __repr__(self) -> str:
        fields = _without_secrets(self._contract, self.set_fields())
        inside = ", ".join(f"{name}={value!r}" for name, value in fields.items())
        return f"{type(self).__name__}({inside})"

    def set_fields(self) -> dict[str, Any]:
        """Return the fields that were set, as plain values."""
        decoded = msgspec.json.decode(self.result)
        return decoded if isinstance(decoded, dict) else {}


def _without_secrets(model: Contract | None, value: Any) -> Any:
    """Return plain fields with ``***`` for secret and unknown ones, at any depth."""
    if model is None:
        return value
    if isinstance(value, list):
        return [_without_secrets(model, item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _without_secrets(model.nested_models.get(name), inner)
        if name in model.names - model.secrets
        else "***"
        for name, inner in value.items()
    }


_OWN_ATTRIBUTES = frozenset({*ModelBase.__annotations__, *Model.__annotations__})
