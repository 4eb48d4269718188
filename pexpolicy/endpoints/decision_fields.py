"""Fields of a decision, as a setting of a plugin and as a row of a table."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args, get_origin

from msgspec import UNSET

from pexpolicy.endpoints.service_configuration import service_class
from pexpolicy.endpoints.service_types import Service
from pexpolicy.models.contract import NO_EXTRAS, Extras, ModelBase, alternatives, contract_of
from pexpolicy.models.decision import Decision
from pexpolicy.models.errors import DecisionError, ValidationIssue

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, ValidationInfo
    from pydantic_core import CoreSchema

D_co = TypeVar("D_co", bound=Decision, covariant=True)


class FieldsOf(Mapping[str, Any], Generic[D_co]):
    """Fields of a decision as a setting: ``FieldsOf[Conference]`` is a table of any of its fields.

    Each field is checked with the settings, and each mistake is a problem with its key. The plugin
    adds the rest and makes the decision::

        class Settings(PluginSettings):
            room: FieldsOf[Conference] = FieldsOf(Conference)


        settings.room.decision(name="Garden", service_tag="garden")

    ``FieldsOf[Service]`` is a table of any kind of service; its ``service_type`` says which, by
    default a conference. A ``FieldsOf`` made in code is not checked before ``decision``.
    """

    __slots__ = ("_extras", "_fields", "_model")

    def __init__(
        self, model: type[D_co], fields: Mapping[str, Any] | None = None, extras: Extras = NO_EXTRAS
    ) -> None:
        self._model = model
        self._fields = dict(fields or {})
        self._extras = extras

    def decision(self, *, reason: str | None = None, **fields: Any) -> D_co:
        """Return the decision with these fields, which replace those of the setting.

        ``UNSET`` leaves a field out. Raises ``DecisionError``; in the constructor of a plugin that
        is a problem with the key of the setting.
        """
        given = {k: v for k, v in {**self._fields, **fields}.items() if v is not UNSET}
        extras = self._extras
        try:
            model = _class_of(self._model, given, extras)
            decision: D_co = model.from_result(given, reason=reason, extras=extras, strict=True)
        except DecisionError as error:
            issues = _issues(self._model, given, extras) or [error.refusal]
            raise FieldsError(self, issues) from None
        return decision

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, _: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 - for settings only

        found = next(iter(get_args(source)), None)
        if not (isinstance(found, type) and issubclass(found, Decision)):
            raise TypeError("FieldsOf takes the class of a decision: write FieldsOf[Conference]")
        model: Any = found

        def checked(table: dict[str, Any], info: ValidationInfo) -> FieldsOf[Decision]:
            extras = (info.context or {}).get("extras", NO_EXTRAS)
            _refuse(i for i in _issues(model, table, extras) if i.rule != "is required")
            return cls(model, table, extras)

        # Not strict: a ``FieldsOf`` is taken, too.
        table = core_schema.dict_schema(
            core_schema.str_schema(), core_schema.any_schema(), strict=False
        )
        return core_schema.with_info_after_validator_function(checked, table)


class FieldsError(DecisionError):
    """The fields of ``source`` make no decision; ``issues`` holds everything that is wrong."""

    def __init__(self, source: FieldsOf[Decision], issues: Sequence[ValidationIssue]) -> None:
        super().__init__(issues[0])
        self.source = source
        self.issues = issues


def _class_of(model: type[Any], fields: Mapping[str, Any], extras: Extras) -> type[Any]:
    """Return the class of a decision with these fields; raises ``DecisionError``."""
    if model is not Service:
        return model
    return service_class(fields.get("service_type", "conference"), extras)


def _issues(
    model: type[Any], fields: Mapping[str, Any], extras: Extras
) -> Sequence[ValidationIssue]:
    try:
        chosen = _class_of(model, fields, extras)
    except DecisionError as error:
        return [error.refusal]
    found: list[ValidationIssue] = chosen.find_issues(fields, extras)
    return found


def _refuse(issues: Iterable[ValidationIssue]) -> None:
    """Raise a ``ValidationError`` of pydantic with these issues, if there are any."""
    from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError  # noqa: PLC0415 - for settings only

    errors = [
        InitErrorDetails(
            type=PydanticCustomError("value_error", "{text}", {"text": issue.rule}),
            loc=issue.key,
            input=None,
        )
        for issue in issues
    ]
    if errors:
        raise ValidationError.from_exception_data("FieldsOf", errors)


_YES = "1 true yes ja oui si s\xed wahr vrai verdadero vero waar sann sant sand prawda"
_NO = "0 false no nein nei nej non nee falsch faux falso onwaar usann falskt falsk fa\u0142sz"
"""What people write, and what a spreadsheet in German, French, Spanish, Italian, Dutch, Norwegian,
Swedish, Danish or Polish saves for true and false.
"""
_YES_NO = dict.fromkeys(_YES.split(), True) | dict.fromkeys(_NO.split(), False)


class RowValues:
    """Gives the values of a row the types of the fields of a model.

    Text in a field that takes no text is read as a value of TOML or JSON, and an object in a field
    that takes either. In a field that takes a boolean, 0 and 1 are ones, and so are yes and no, and
    what spreadsheets in other languages make of true and false.
    What cannot be read stays, so that the check of the model names it.
    """

    def __init__(self, model: type[ModelBase]) -> None:
        contract = contract_of(model)
        hints = contract.hints.items()
        self._texts = frozenset(name for name, hint in hints if _takes_text(hint))
        self._booleans = frozenset(n for n, hint in hints if bool in alternatives(hint))
        self._objects = frozenset(contract.nested_models)

    @staticmethod
    def boolean(text: str) -> bool | None:
        """Return what a word means, such as ``yes`` or ``WAHR``; ``None`` for any other text."""
        return _YES_NO.get(text.lower())

    def of(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a row; those of ``None`` are left out."""
        return {n: self._value(n, value) for n, value in row.items() if value is not None}

    def _value(self, name: str, value: Any) -> Any:
        if isinstance(value, str):
            if name in self._texts and not (name in self._objects and value[:1] == "{"):
                return value
            meant = self.boolean(value) if name in self._booleans else None
            return _parsed(value) if meant is None else meant
        if type(value) is int and value in (0, 1) and name in self._booleans:
            return bool(value)
        return value


def _takes_text(hint: Any) -> bool:
    return any(
        str in (kind, *get_args(kind)[:1]) or get_origin(kind) is Literal
        for kind in alternatives(hint)
        if get_origin(kind) not in (list, dict)
    )


def _parsed(cell: str) -> Any:
    with suppress(ValueError, RecursionError):
        return tomllib.loads(f"value = {cell}")["value"]
    with suppress(ValueError, RecursionError):
        return json.loads(cell)
    return cell
