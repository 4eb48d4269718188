"""Strict JSON: only texts that every parser reads alike."""

from __future__ import annotations

import codecs
import json
import math
from typing import Any, NoReturn

import orjson


class NotJSONError(ValueError):
    """The body is not JSON, or JSON that parsers read differently."""


class AmbiguousJSONError(NotJSONError):
    """Some parsers take the body, and not all of them read the same in it."""


def strict_json(body: bytes) -> Any:
    """Return the value of a JSON text in UTF-8.

    Raises ``NotJSONError`` for anything else: a byte order mark, a duplicate key, NaN and infinity,
    half a surrogate pair, a number beyond a double, excessive nesting.
    """
    if body.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise AmbiguousJSONError("it begins with a byte order mark")
    if not body.strip():
        raise NotJSONError("it is empty")
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_reject_constant,
            parse_float=_finite,
        )
        # It refuses half a surrogate pair, numbers beyond a double, and, unlike Python 3.12 and
        # later, a nesting of more than 1,024 levels.
        orjson.loads(body)
    except UnicodeDecodeError:
        raise NotJSONError("it is not UTF-8") from None
    except RecursionError:
        raise NotJSONError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise NotJSONError(f"{error.msg.removesuffix(' at')} at character {error.pos}") from None
    except NotJSONError:
        raise
    except ValueError:
        # Python converts no whole number of more than 4,300 digits.
        raise AmbiguousJSONError("a number is too large") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise AmbiguousJSONError(f"the key {key[:60]!r} occurs twice")
        found[key] = value
    return found


def _reject_constant(text: str) -> NoReturn:
    raise AmbiguousJSONError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise AmbiguousJSONError("a number is too large")
    return number
