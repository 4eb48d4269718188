"""What is sent to Infinity: fields that are checked, and rendered, at the moment they are put together.

A class lists its fields with their types; the fields are checked against them, and against the rules of
the class, when an instance is made. The instance keeps what was rendered, and nothing else: what was
checked is what is sent, whatever happens to the lists and dictionaries it was made of.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import (
    Any,
    ClassVar,
    NoReturn,
    Self,
    Union,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
import orjson
from msgspec import UNSET, UnsetType

from pexpolicy.refusal import DecisionError, Refusal, unknown_field

Unset = UnsetType
encode = orjson.dumps


class Mark(enum.StrEnum):
    """How sure a statement of the contract is."""

    DOCUMENTED = "DOCUMENTED"
    """Read in Pexip's own text."""
    DOCUMENTED_STAR = "DOCUMENTED*"
    """Copied from Pexip's text by integrators."""
    CAPTURE = "CAPTURE"
    """Seen in the traffic of a Conferencing Node."""
    FIELD = "FIELD"
    """Said by integrators only."""
    CONTESTED = "CONTESTED"
    """The sources disagree."""

    @property
    def binding(self) -> bool:
        """True where a breach is refused; a breach of any other rule is sent, with a warning."""
        return self in (Mark.DOCUMENTED, Mark.DOCUMENTED_STAR)


@dataclass(frozen=True, slots=True)
class Field:
    """What the contract says of one field, in words; its type stands on the class."""

    doc: str
    mark: Mark = Mark.DOCUMENTED_STAR
    source: str = "oda"
    default: str = ""
    """What Infinity assumes when the field is not sent."""
    secret: bool = False
    """True for what must never be stored or shown: PINs, passwords, dial tones."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule between fields: looked at where ``field`` was set, broken where ``broken`` says so."""

    field: str
    text: str
    mark: Mark
    source: str
    broken: Callable[[Mapping[str, Any]], object]


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Checked:
    """Fields under their names on the wire, checked and rendered when the instance is made.

    Raises ``DecisionError`` for a field that does not exist, is missing or has a wrong type, and for a
    broken rule that Pexip documents. Rules that are only said by integrators become ``warnings``.
    """

    __slots__ = ("result", "warnings")

    fields: ClassVar[Mapping[str, Field]] = {}
    rules: ClassVar[tuple[Rule, ...]] = ()
    fixed: ClassVar[Mapping[str, Any]] = {}
    consequence: ClassVar[str] = "Infinity would drop the whole result and use its own database"
    wire: ClassVar[type[msgspec.Struct]]
    names: ClassVar[frozenset[str]] = frozenset()
    secrets: ClassVar[frozenset[str]] = frozenset()
    nested: ClassVar[tuple[type[Checked], ...]] = ()
    secret_marks: ClassVar[tuple[bytes, ...]] = ()

    result: bytes
    """The fields as they are sent, in JSON."""
    warnings: tuple[str, ...]
    """Rules that may void the answer, and that the sources do not agree on."""

    def __init__(self, **fields: Any) -> None:
        self._check(fields, strict=True)

    def __init_subclass__(cls) -> None:
        """Turn the annotations of the class into the type that its fields are checked against."""
        super().__init_subclass__()
        hints = get_type_hints(cls, include_extras=True)
        own = {**cls._wire_defaults(), **{n: vars(cls).get(n, ...) for n in cls.__annotations__}}
        declared = {
            name: own[name]
            for name, hint in hints.items()
            if name in own and get_origin(hint) is not ClassVar and name not in _OWN_NAMES
        }
        cls.wire = msgspec.defstruct(
            cls.__name__,
            [
                (name, _wired(hints[name]), default) if default is not ... else (name, _wired(hints[name]))
                for name, default in declared.items()
            ],
            kw_only=True,
        )
        cls.names = frozenset(declared)
        cls.secrets = frozenset(n for n in declared if n in cls.fields and cls.fields[n].secret)
        cls.nested = tuple({model for name in declared for model in _models_in(hints[name])})
        secrets = {name for model in (cls, *cls.nested) for name in model.secrets}
        cls.secret_marks = tuple(f'"{name}"'.encode() for name in sorted(secrets))
        for name in declared:
            if name in vars(cls):
                delattr(cls, name)

    @classmethod
    def _wire_defaults(cls) -> dict[str, Any]:
        wire = cls.__mro__[1].__dict__.get("wire")
        if wire is None:
            return {}
        return {
            f.name: ... if f.default is msgspec.NODEFAULT else f.default
            for f in msgspec.structs.fields(wire)
        }

    @classmethod
    def from_result(cls, fields: Mapping[str, Any]) -> Self:
        """The same from a plain dictionary; fields that do not exist are kept, with a warning.

        Infinity appears to tolerate unknown fields (FIELD), and new ones come with its releases.
        """
        checked = cls.__new__(cls)
        checked._check(dict(fields), strict=False)
        return checked

    def _check(self, fields: dict[str, Any], *, strict: bool) -> None:
        cls = type(self)
        fields.update(cls.fixed)
        try:
            msgspec.convert(fields, cls.wire)
        except msgspec.ValidationError:
            fields = cls._check_again(fields)
        warnings: list[str] = []
        if not fields.keys() <= cls.names:
            warnings += cls._unknown(fields, strict=strict)
        for rule in cls.rules:
            if rule.field in fields and rule.broken(fields):
                if rule.mark.binding:
                    raise DecisionError(cls._refusal(rule.field, fields, rule.text, rule.mark, rule.source))
                warnings.append(f"{rule.field}: {rule.text} [{rule.mark} {rule.source}]")
        try:
            result = encode(fields)
        except (TypeError, ValueError, RecursionError) as error:
            raise DecisionError(cls._refusal("", fields, f"cannot be written as JSON: {error}")) from None
        assign(self, "result", result)
        assign(self, "warnings", tuple(warnings))

    @classmethod
    def _check_again(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Check once more with enums, nested models and subclasses of str and int in plain form."""
        try:
            fields = cast("dict[str, Any]", plain(fields))
            msgspec.convert(fields, cls.wire)
        except RecursionError:
            raise DecisionError(cls._refusal("", fields, "is nested too deeply")) from None
        except msgspec.ValidationError as error:
            name, complaint = _complaint(str(error))
            if strange := unknown_field(name, fields, cls.names):
                complaint = f"{complaint}; {strange}"
            raise DecisionError(cls._refusal(name, fields, complaint)) from None
        return fields

    @classmethod
    def _unknown(cls, fields: Mapping[str, Any], *, strict: bool) -> list[str]:
        warnings: list[str] = []
        for name in fields:
            if name in cls.names:
                continue
            text = unknown_field("", {name: None}, cls.names)
            if strict:
                raise DecisionError(cls._refusal(name, fields, text))
            if isinstance(value := fields[name], str) and len(value) > MAX_TEXT:
                raise DecisionError(cls._refusal(name, fields, f"text of more than {MAX_TEXT} characters"))
            warnings.append(f"{name}: {text}; Infinity appears to ignore it [FIELD pexip-ex]")
        return warnings

    @classmethod
    def _refusal(
        cls, name: str, fields: Mapping[str, Any], rule: str, mark: str = "", source: str = ""
    ) -> Refusal:
        known = cls.fields.get(name.partition("[")[0].partition(".")[0])
        return Refusal(
            model=cls.__name__,
            field=name,
            value=fields.get(name),
            shown=name in fields and name not in cls.secrets,
            rule=rule,
            doc=known.doc if known else "",
            mark=str(mark or (known.mark if known else "")),
            source=source or (known.source if known else ""),
            consequence=cls.consequence,
        )

    def __getattr__(self, name: str) -> Any:
        if name not in type(self).names:
            msg = f"{type(self).__name__} has no field {name!r}"
            raise AttributeError(msg)
        return getattr(msgspec.json.decode(self.result, type=type(self).wire), name)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        msg = f"{type(self).__name__} is frozen: make a new one"
        raise AttributeError(msg)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.result == cast("Self", other).result

    def __hash__(self) -> int:
        return hash((type(self), self.result))

    def __repr__(self) -> str:
        shown = {n: "***" if n in self.secrets else v for n, v in self.set_fields().items()}
        inside = ", ".join(f"{name}={value!r}" for name, value in shown.items())
        return f"{type(self).__name__}({inside})"

    def set_fields(self) -> dict[str, Any]:
        """The fields that were set, as plain values."""
        decoded = msgspec.json.decode(self.result)
        return decoded if isinstance(decoded, dict) else {}


MAX_TEXT = 250
_OWN_NAMES = frozenset(Checked.__annotations__)
assign = object.__setattr__
"""Sets what the frozen classes here keep; for their own constructors only."""


def plain(value: Any) -> Any:
    """Plain dictionaries, lists, texts and numbers out of what a plugin put together."""
    if isinstance(value, Checked):
        return msgspec.json.decode(value.result)
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes | bytearray):
        return value
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    return value


def _wired(hint: Any) -> Any:
    """A type with each model in it replaced by the type that it is checked against."""
    if isinstance(hint, type) and issubclass(hint, Checked):
        return hint.wire
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return Union[tuple(_wired(arg) for arg in args)]  # noqa: UP007 - built from a list of types
    if origin in (list, Sequence):
        return list[_wired(args[0])]  # type: ignore[misc]
    return hint


def _models_in(hint: Any) -> list[type[Checked]]:
    if isinstance(hint, type) and issubclass(hint, Checked):
        return [hint]
    return [model for part in get_args(hint) for model in _models_in(part)]


def _complaint(message: str) -> tuple[str, str]:
    """The field that msgspec complains of, and the complaint without the field."""
    complaint, _, place = message.partition(" - at `$")
    name = place.rstrip("`").lstrip(".")
    if complaint.startswith("Object missing required field `"):
        missing = complaint.rpartition(" `")[2].rstrip("`")
        return (f"{name}.{missing}" if name else missing), "is required"
    return name, complaint[:1].lower() + complaint[1:].replace("`", "")
