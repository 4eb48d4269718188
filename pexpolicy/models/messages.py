"""Descriptions of types in words, for error messages and the reference."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from msgspec import Meta, UnsetType

from pexpolicy.text import article, did_you_mean

BIT_RATE = "bit/s"
"""Unit of the rates; the management API of Infinity has kbit/s for the same fields."""
KILOBITS = range(128, 8193)


def alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the types that a field may have, without the one of an unset field."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(arg for arg in get_args(hint) if arg is not UnsetType)
    return (hint,)


def wanted(hint: Any) -> str:
    """Describe a value of this type, such as ``a whole number from 0 to 30``."""
    return " or ".join(_wanted(kind) for kind in alternatives(hint))


def _wanted(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        base, meta = get_args(kind)[:2]
        return meta.description or _measured(base, meta)
    if get_origin(kind) is Literal:
        words = ", ".join(repr(word) for word in get_args(kind))
        return f"one of {words}" if "," in words else words
    if get_origin(kind) is list:
        return f"a list, each item {wanted(get_args(kind)[0])}"
    return _NAMES.get(get_origin(kind) or kind) or f"{article(kind.__name__)} or its fields"


_NAMES: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    str: "text",
    dict: "a dictionary",
    types.NoneType: "null",
}


def _measured(base: Any, meta: Meta) -> str:
    low, high = (meta.min_length, meta.max_length) if base is str else (meta.ge, meta.le)
    if base is str:
        return f"text of {f'{low} to' if low else 'at most'} {high} characters"
    if high is None:
        return f"a whole number of at least {low}"
    return f"a whole number from {low} to {high}"


def advice(hint: Any, value: Any, slips: Mapping[str, str]) -> str:
    """Return a suggestion for a wrong value, after a semicolon, or nothing."""
    if value is None:
        is_optional = UnsetType in get_args(hint)
        return "; leave the field out for the default of Infinity" if is_optional else ""
    text = slips.get(value) if isinstance(value, str) else None
    for kind in alternatives(hint):
        text = text or _advice(kind, value)
    return f"; {text}" if text else ""


def _advice(kind: Any, value: Any) -> str:
    origin = get_origin(kind)
    if origin is Literal:
        return _of_words(get_args(kind), value)
    base, meta = get_args(kind)[:2] if origin is Annotated else (kind, Meta())
    if isinstance(value, str):
        return _of_text(get_origin(base) or base, meta, value)
    if isinstance(value, int):
        return _of_number(base, meta, value)
    return ""


def _of_words(words: tuple[str, ...], value: Any) -> str:
    if isinstance(value, bool) and "yes" in words:
        return f"write {'yes' if value else 'no'!r}"
    if not isinstance(value, str):
        return ""
    folded = {word.lower(): word for word in words}
    near = folded.get(value.lower())
    return f"did you mean {near!r}?" if near else did_you_mean(value, words).removeprefix("; ")


def _of_text(base: Any, meta: Meta, value: str) -> str:
    if base is bool and value.lower() in ("true", "false"):
        return f"write {value.lower()} without quotes ({value.capitalize()} in Python)"
    if base is int and re.fullmatch(r"-?[0-9]{1,18}", value):
        return _of_number_in_quotes(meta, int(value))
    if base is list:
        return "write it in square brackets"
    if base is str and meta.max_length is not None and len(value) > meta.max_length:
        return f"this one has {len(value)}, and Infinity may cut it or drop the answer"
    return ""


def _of_number_in_quotes(meta: Meta, value: int) -> str:
    low, high = meta.ge, meta.le
    if (low is None or value >= low) and (high is None or value <= high):
        return f"write {value} without quotes"
    if (meta.extra or {}).get("unit") == BIT_RATE and value in KILOBITS:
        return f"{value} looks like kbit/s, in bit/s and without quotes it is {value * 1000}"
    return "write numbers without quotes"


def _of_number(base: Any, meta: Meta, value: int) -> str:
    if base is str and not isinstance(value, bool):
        zeros = (meta.extra or {}).get("zeros")
        return "write it in quotes" + (", so that leading zeros are kept" if zeros else "")
    if base is int and (meta.extra or {}).get("unit") == BIT_RATE and value in KILOBITS:
        return f"{value} looks like kbit/s, in bit/s it is {value * 1000}"
    return ""
