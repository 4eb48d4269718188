"""Rows of tables as fields of decisions: cells are text, and not every database has booleans."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from pexpolicy.models.contract import ModelBase, contract_of

_TRUTH = ("true", "false")
_TRUE = ("1", "yes", "ja", "oui", "si", "s\N{LATIN SMALL LETTER I WITH ACUTE}")
_FALSE = ("0", "no", "nein", "nei", "nej", "non", "nee")
_LOGICAL_TRUE = ("wahr", "vrai", "verdadero", "vero", "waar", "sann", "sant", "sand", "prawda")
_LOGICAL_FALSE = (
    *("falsch", "faux", "falso", "onwaar", "usann", "falskt", "falsk"),
    "fa\N{LATIN SMALL LETTER L WITH STROKE}sz",
)
"""What a spreadsheet in German, French, Spanish, Italian, Dutch, Norwegian, Swedish, Danish or
Polish saves for true and false.
"""
_YES_NO = {
    **dict.fromkeys((*_TRUE, *_LOGICAL_TRUE), True),
    **dict.fromkeys((*_FALSE, *_LOGICAL_FALSE), False),
}


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
        self._booleans = frozenset(n for n, hint in hints if bool in _types(hint))
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
            is_text = name in self._texts and not (name in self._objects and value[:1] == "{")
            meant = self.boolean(value) if name in self._booleans and not is_text else None
            if meant is not None:
                return meant
            return value if is_text else _parsed(value)
        if type(value) is int and value in (0, 1) and name in self._booleans:
            return bool(value)
        return value


def _types(hint: Any) -> frozenset[Any]:
    """Return the types of a union, or the type itself."""
    return frozenset(get_args(hint)) or frozenset((hint,))


def _takes_text(hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (list, tuple, dict):
        return False
    return hint is str or origin is Literal or any(map(_takes_text, get_args(hint)))


def _parsed(cell: str) -> Any:
    try:
        return tomllib.loads(f"value = {cell.lower() if cell.lower() in _TRUTH else cell}")["value"]
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell
