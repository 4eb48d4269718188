"""Strict JSON parser, as a careful client may use."""

import json
import math


def read_json(body: bytes) -> object:
    """Read a body as strict JSON in UTF-8.

    Raises ValueError for anything less: NaN, infinities, duplicate keys, lone surrogates, nesting
    too deep to read.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            parse_constant=refuse_constant,
            parse_float=finite,
            object_pairs_hook=unique_keys,
        )
        if b"\\ud" in body.lower():
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("nested too deep") from None
    except UnicodeEncodeError:
        raise ValueError("lone surrogate") from None
    return value


def refuse_constant(name: str) -> object:
    """Refuse NaN and the infinities, which Python would read."""
    raise ValueError(f"{name} is no JSON number")


def finite(digits: str) -> float:
    """Read a number; refuse one that overflows to infinity."""
    number = float(digits)
    if math.isinf(number):
        raise ValueError("number out of range")
    return number


def unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Build an object; refuse a key that comes twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found
