"""Messages about values of a wrong type or form: what is wrong, and what to write."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def message(item: Mapping[str, Any]) -> str:
    """Return what is wrong, from an error of pydantic."""
    if item["type"] == "string_pattern_mismatch":
        return _PATTERNS.get(item["ctx"]["pattern"], "has characters that are not possible here")
    if item["type"] == "string_too_short" and not item["input"]:
        return "is empty: write a value, or leave the key out"
    if item["type"] == "too_short":
        return f"has too few items: write {item['ctx']['min_length']} or more, or leave the key out"
    text: str = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if item["type"] == "time_delta_parsing":
        text = text.partition(",")[0]
    for name, meaning in _NAMES_IN_JSON.items():
        text = text.replace(name, meaning)
    return text[:1].lower() + text[1:]


def form(kind: str, value: Any) -> str:
    """Return in which form to write a value; the value may be secret and is not shown."""
    if kind.startswith("time_delta"):
        return '; write text, as in "PT90S" or "00:01:30"'
    if kind == "bool_type":
        literal = _LOGICAL.get(str(value).lower())
        if type(value) is int and literal:
            return f"; write {literal}"
        return f"; write {literal} without quotes" if literal else ""
    if not isinstance(value, str):
        return _FORMS.get((kind, type(value)), "")
    return _LIST if kind == "list_type" else _number_form(kind, value)


def _number_form(kind: str, value: str) -> str:
    pattern, example = _NUMBERS.get(kind, ("", ""))
    if not pattern:
        return ""
    if re.fullmatch(pattern, value):
        return "; write it without quotes"
    if kind == "float_type" and (percent := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", value)):
        return f"; write a fraction, as in {float(percent[1]) / 100:g}"
    if re.fullmatch(r"\d+(\.\d+)?\s*[A-Za-z%]+", value):
        return "; write a number, without quotes and without a unit"
    return f"; write a number, as in {example}"


_LOGICAL = {
    **dict.fromkeys(("true", "yes", "on", "1"), "true"),
    **dict.fromkeys(("false", "no", "off", "0"), "false"),
}
_LIST = '; write it in square brackets, as in ["first", "second"]'
_FORMS: Mapping[tuple[str, type], str] = {
    ("list_type", bool): _LIST,
    ("list_type", int): _LIST,
    ("string_type", dict): "; write text in quotes, and no table",
    ("string_type", bool): "; write text in quotes",
    ("string_type", list): "; write one text, without brackets",
    ("string_type", int): "; write it in quotes",
    ("string_type", float): "; write it in quotes",
}
"""By the error and the type of the value: the form to write."""
_PATTERNS = {
    r"^https?://[^\s]+$": "is not a URL: write one such as http://127.0.0.1:4318/v1/traces",
    r"^https?://[^\s/?#@]+$": "is not a URL without a path: write one such as https://host.example",
    r"^https?://[^\s?#]+$": "is not a URL: write one such as https://login.example.com",
    r"^[A-Z]{2}$": "is not a code of two capital letters, such as NO",
    r"^[a-z][a-z0-9_]*$": "is not the name of a field: small letters, digits and _",
    r"^[A-Za-z0-9-]+$": "is not the name of a header: letters, digits and -",
}
"""By the pattern of a text: what is wrong with another one, and what to write."""
_NUMBERS = {"int_type": (r"[+-]?\d+", "100"), "float_type": (r"[+-]?\d+(\.\d+)?", "1.5")}
_NAMES_IN_JSON = {
    "a valid array": "a list",
    "a valid list": "a list",
    "an object": "a table",
    "a valid dictionary": "a table",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid boolean": "true or false",
}
