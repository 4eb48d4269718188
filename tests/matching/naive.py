"""Naive implementation of conditions on tables and raw parameters."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from typing import Any

from pexpolicy import Alias
from tests.matching.strategies import Pairs, Written


def matches(when: Written, pairs: Pairs) -> bool:
    """Return whether the parameters match the table."""
    return all(_holds(key, table, pairs) for key, table in when.items())


def _holds(key: str, table: Any, pairs: Pairs) -> bool:
    if key in ("all", "any", "none"):
        inner = [matches(part, pairs) for part in table]
        return {"all": all(inner), "any": any(inner), "none": not any(inner)}[key]
    if key == "local_alias":
        return _alias(table, [v for k, v in pairs if k == key])
    if key == "registered":
        return [v for k, v in pairs if k == key] == [str(table)]
    wire, operators = key, table
    if key == "idp_attributes":
        wire, operators = "idp_attribute_group", table["group"]
    elif key == "params":
        wire, operators = "odd-name", table["odd-name"]
    return _operators(operators, [v for k, v in pairs if k.lower() == wire and _is_set(key, v)])


def _is_set(key: str, value: str) -> bool:
    return value != "x" if key == "bandwidth" else bool(value)


def _alias(table: Written, written: list[str]) -> bool:
    aliases = [Alias(text) for text in written]
    parts = {part: table[part] for part in ("user", "host", "raw") if part in table}
    rest = {name: operand for name, operand in table.items() if name not in parts}
    for name in ("equals", "not_equals"):
        if name in rest:
            rest[name] = str(Alias(rest[name]))
    for name in ("one_of", "not_one_of"):
        if name in rest:
            rest[name] = [str(Alias(text)) for text in rest[name]]
    values = [str(alias) for alias in aliases if alias]
    return _operators(rest, values) and all(
        _operators(inner, [getattr(a, part) for a in aliases if getattr(a, part)])
        for part, inner in parts.items()
    )


def _operators(table: Any, values: list[str]) -> bool:
    every = table.get("values") == "all"
    cased = table.get("case_sensitive", False)
    for name, operand in table.items():
        if name in ("values", "case_sensitive"):
            continue
        if name == "exists":
            if bool(values) is not operand:
                return False
            continue
        positive = name.removeprefix("not_")
        each = [_one(positive, operand, value, cased=cased) for value in values]
        held = bool(each) and all(each) if every else any(each)
        if held is name.startswith("not_"):
            return False
    return True


def _one(name: str, operand: Any, value: str, *, cased: bool) -> bool:
    operands = operand if isinstance(operand, list) else [operand]
    return any(_single(name, one, value, cased=cased) for one in operands)


def _single(name: str, operand: Any, value: str, *, cased: bool) -> bool:
    if name in ("greater", "less") or isinstance(operand, int):
        return _number(name, operand, value)
    if name == "in_subnet":
        return _in_network(operand, value)
    text, wanted = (value, operand) if cased else (value.lower(), operand.lower())
    flags = re.DOTALL if cased else re.DOTALL | re.IGNORECASE
    found: dict[str, bool] = {
        "equals": text == wanted,
        "one_of": text == wanted,
        "prefix": text[: len(wanted)] == wanted,
        "suffix": text[::-1][: len(wanted)] == wanted[::-1],
        "contains": text.find(wanted) >= 0,
    }
    if name in found:
        return found[name]
    if name == "glob":
        return re.fullmatch(fnmatch.translate(wanted), text) is not None
    return re.fullmatch(operand, value, flags) is not None


def _number(name: str, operand: int, value: str) -> bool:
    sign, digits = (-1, value[1:]) if value[:1] == "-" else (1, value)
    whole, dot, fraction = digits.partition(".")
    if not whole.isdigit() or bool(dot) is not fraction.isdigit():
        return False
    number = sign * float(digits)
    if name == "greater":
        return number > operand
    return number < operand if name == "less" else number == operand


def _in_network(operand: str, value: str) -> bool:
    try:
        address = ipaddress.ip_address(value.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address in ipaddress.ip_network(operand)
