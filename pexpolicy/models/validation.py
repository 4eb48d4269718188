"""The validation of fields: every issue with its place, the type that is wanted, and advice."""

from __future__ import annotations

import re
import types
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, UnsetType

from pexpolicy.models.contract import (
    NO_EXTRAS,
    Contract,
    Extras,
    alternatives,
    contract_of,
    fields_in,
    models_in,
    render,
)
from pexpolicy.models.errors import DecisionError, ValidationIssue
from pexpolicy.models.rules import Field, Rule
from pexpolicy.text import article, brief, brief_name, did_you_mean, suggest

BIT_RATE = "bit/s"
"""Unit of the rates; the management API of Infinity has kbit/s for the same fields."""
KILOBITS = range(128, 8193)


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


NO_FIELD = "there is no field"
"""The beginning of the rule that a field breaks which its model does not have."""
MAX_TEXT = 250
"""Maximum length of a text in Infinity (transcribed)."""
MAX_CHECKED = 100_000
"""Characters of a text above which nothing else is said about it."""
MAX_NAMED = 5
"""Unknown fields that have a warning each."""
MAX_UNKNOWN = 100
"""Unknown fields of a dictionary."""
MAX_UNKNOWN_BYTES = 16 * 1024
"""Size of the unknown fields in JSON."""
NOT_SHOWN = object()

_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


def check_in_detail(
    contract: Contract, fields: dict[str, Any], extras: Extras, *, known_only: bool
) -> tuple[bytes, Any, tuple[str, ...]]:
    """Return the JSON of fields, the decoded fields, and warnings; raise ``DecisionError``.

    Unknown fields are refused where ``known_only`` is true; otherwise they have a warning.
    """
    warnings: list[str] = []
    for name, value in fields.items():
        # To look closely at it would take longer than a plugin may take.
        if type(value) is str and len(value) > MAX_CHECKED:
            text = f"must be text of at most {MAX_TEXT} characters"
            raise DecisionError(refusal(contract, name, value, text))
    try:
        result = render(fields)
        decoded = msgspec.json.decode(result)
        if extras and isinstance(decoded, dict):
            warnings += (f"{text} [reported]" for text in extras.warnings(contract, decoded))
            decoded = extras.plain(contract, decoded)
        sent = msgspec.json.decode(render(decoded) if extras else result, type=contract.lenient)
    except Exception as error:  # noqa: BLE001 - what is read may raise anything
        first = next(find_issues(contract, fields, extras), None) or refusal(
            contract, "", NOT_SHOWN, _why(error)
        )
        raise DecisionError(first) from None
    if not known_only and (text := _too_much(contract, decoded)):
        raise DecisionError(refusal(contract, "", NOT_SHOWN, text))
    listed = len(warnings)
    for place, model, name, value in _unknown(contract, decoded):
        if len(warnings) == listed + MAX_NAMED:
            warnings.append("there are more fields that do not exist [reported]")
            break
        text = _no_such_field(model, name)
        if known_only:
            raise DecisionError(refusal(contract, place + name, NOT_SHOWN, text))
        if isinstance(value, str) and len(value) > MAX_TEXT:
            rule = f"text of more than {MAX_TEXT} characters"
            raise DecisionError(refusal(contract, place + name, NOT_SHOWN, rule))
        text = f"{place}{brief_name(name)}: {text}"
        warnings.append(f"{text}; Infinity appears to ignore it [reported]")
    return result, sent, tuple(warnings)


def _too_much(contract: Contract, decoded: Mapping[str, Any]) -> str:
    """Return an error text where unknown fields are too many or too long."""
    sizes = [len(render({name: value})) for _, _, name, value in _unknown(contract, decoded)]
    if len(sizes) > MAX_UNKNOWN:
        return f"{len(sizes)} fields do not exist, and {MAX_UNKNOWN} are accepted at most"
    if sum(sizes) > MAX_UNKNOWN_BYTES:
        most = f"{MAX_UNKNOWN_BYTES} are accepted at most"
        return f"fields that do not exist have {sum(sizes)} bytes, and {most}"
    return ""


def find_issues(
    contract: Contract, fields: Mapping[str, Any], extras: Extras = NO_EXTRAS
) -> Iterator[ValidationIssue]:
    """Yield every reason to refuse fields.

    Rules are evaluated for valid fields only, so that no issue follows from another one.
    """
    rest = extras.plain(contract, {**contract.constants, **fields})
    kind = contract.partial()
    while (found := _unreadable(contract, kind, rest)) is not None:
        yield found
        name = _STEP.findall(f".{found.field}")[0][0] if found.field else ""
        if name not in rest:
            return
        del rest[name]
    result = render(rest)
    decoded = msgspec.json.decode(result)
    needed = [
        n for n in contract.hints if contract.defaults[n] is ... and n not in {*rest, *fields}
    ]
    for name in needed:
        text = "is required" + _misspelt(name, decoded, contract.names)
        yield refusal(contract, name, NOT_SHOWN, text)
    for place, model, name, _ in _unknown(contract, decoded):
        if place or not did_you_mean(name, needed):
            yield refusal(contract, place + name, NOT_SHOWN, _no_such_field(model, name))
    gone = frozenset({*extras.plain(contract, fields), *needed} - rest.keys())
    for place, rule, value in broken_rules(
        contract, _ValidFields(msgspec.json.decode(result, type=kind), gone)
    ):
        if rule.refused:
            yield refusal(contract, place + rule.field, value, rule.text, rule.mark, rule.source)


def _unreadable(
    contract: Contract, kind: type[msgspec.Struct], fields: dict[str, Any]
) -> ValidationIssue | None:
    """Return the issue of the first field that has no JSON, or a wrong type."""
    try:
        result = render(fields)
    except Exception as error:  # noqa: BLE001 - what is read may raise anything
        return _unwritable(contract, fields, error)
    try:
        msgspec.json.decode(result, type=kind)
    except (msgspec.ValidationError, RecursionError) as error:
        return _unfit(contract, msgspec.json.decode(result), str(error))
    return None


def broken_rules(model: Contract, item: Any, place: str = "") -> Iterator[tuple[str, Rule, Any]]:
    """Yield place, rule and value of each broken rule of a model and its nested models."""
    for rules in model.rules:
        with suppress(_InvalidFieldAccess):
            if rules.quick_check(item):
                continue
        for rule in rules.rules:
            with suppress(_InvalidFieldAccess):
                value = getattr(item, rule.field)
                if value is not msgspec.UNSET and rule.broken(item):
                    yield place, rule, value
    for name, inner in model.nested_models.items():
        with suppress(_InvalidFieldAccess):
            value = getattr(item, name)
            for number, part in enumerate(value) if isinstance(value, list) else ((None, value),):
                if isinstance(part, msgspec.Struct):
                    at = "" if number is None else f"[{number}]"
                    yield from broken_rules(inner, part, f"{place}{name}{at}.")


class _InvalidFieldAccess(Exception):
    """A rule read a field that is wrong or missing, which is reported already."""


class _ValidFields:
    """Fields without the invalid ones."""

    def __init__(self, sent: Any, invalid: Collection[str]) -> None:
        self._sent = sent
        self._invalid = invalid

    def __getattr__(self, name: str) -> Any:
        if name in self._invalid:
            raise _InvalidFieldAccess
        return getattr(self._sent, name)


def refusal(
    contract: Contract, place: str, value: Any, rule: str, mark: str = "", source: str = ""
) -> ValidationIssue:
    """Return the issue of the field at a place such as ``automatic_participants[0].role``."""
    field, secret = _field_at(contract, place)
    return ValidationIssue(
        model=contract.name,
        field=place,
        value=value,
        shown=value is not NOT_SHOWN and not secret,
        rule=rule,
        doc=field.doc if field else "",
        mark=str(mark or (field.mark if field else "")),
        source=source or (field.source if field else ""),
        consequence=contract.consequence,
    )


def _unwritable(contract: Contract, fields: Mapping[str, Any], error: Exception) -> ValidationIssue:
    """Return the issue of the first field that has no JSON."""
    for name, value in fields.items():
        try:
            render({name: value})
        except Exception as cause:  # noqa: BLE001 - as above
            place = name if type(name) is str and name.isidentifier() else ""
            return refusal(contract, place, _safe(value), _why(cause))
    return refusal(contract, "", NOT_SHOWN, _why(error))


def _safe(value: Any) -> Any:
    return value if type(value) is not str or value.isprintable() else NOT_SHOWN


def _why(error: Exception) -> str:
    message = str(error.__cause__ or error)
    for known, text in _REASONS.items():
        if known in message:
            return text
    return (
        message[:200] if isinstance(error, TypeError) else f"cannot be read: {type(error).__name__}"
    )


_REASONS = {
    "surrogates not allowed": "is not valid text: it holds half of a character (a lone surrogate)",
    "Recursion limit": "is nested too deeply, or contains itself",
    "Dict key must be str": "holds a dictionary whose keys are not plain text",
    "Integer exceeds 64-bit": "is a number of more than 64 bits",
}


def _unfit(contract: Contract, decoded: Mapping[str, Any], message: str) -> ValidationIssue:
    """Return the issue of the field that an error message of msgspec names."""
    complaint, _, path = (
        message.rpartition(" - at `$") if message.endswith("`") else (message, "", "")
    )
    if not complaint:
        complaint, path = message, ""
    place = path.rstrip("`").lstrip(".")
    steps = [name or int(number) for name, number in _STEP.findall(f".{place}")] if place else []
    value: Any = decoded
    for step in steps:
        value = value[step]
    if complaint.startswith("Object missing required field `"):
        missing = complaint.rpartition(" `")[2].rstrip("`")
        model = _model_at(contract, steps)
        text = "is required" + _misspelt(missing, value, model.names)
        return refusal(contract, f"{place}.{missing}" if place else missing, NOT_SHOWN, text)
    hint, field = _declared(contract, steps)
    slips = field.slips if field else {}
    kinds = wanted(hint) if steps else f"{article(contract.name)} or its fields"
    return refusal(contract, place, value, f"must be {kinds}{advice(hint, value, slips)}")


def _declared(contract: Contract, steps: Collection[str | int]) -> tuple[Any, Field | None]:
    """Return the type at a place, and its field."""
    hint: Any = None
    field: Field | None = None
    for step in steps:
        if isinstance(step, int):
            hint = next(k for k in alternatives(hint) if getattr(k, "__origin__", None) is list)
            hint = hint.__args__[0]
        else:
            model = contract if hint is None else contract_of(next(models_in(hint)))
            hint, field = model.hints[step], model.fields.get(step)
    return hint, field


def _model_at(contract: Contract, steps: Collection[str | int]) -> Contract:
    hint, _ = _declared(contract, steps)
    return contract_of(next(models_in(hint))) if steps else contract


def _field_at(contract: Contract, place: str) -> tuple[Field | None, bool]:
    """Return the field at a place, and whether it is secret; unknown fields count as secret."""
    model, field = contract, None
    for name, _ in _STEP.findall(f".{place}"):
        if not name:
            continue
        field = model.fields.get(name)
        if name not in model.names or (field is not None and field.secret):
            return field, True
        model = model.nested_models.get(name, model)
    return field, False


def _unknown(
    contract: Contract, decoded: Mapping[str, Any]
) -> Iterator[tuple[str, Contract, str, Any]]:
    """Yield place, model, name and value of unknown fields, at any depth."""
    return (found for found in fields_in(contract, decoded) if found[2] not in found[1].names)


def unknown_field(contract: Contract, name: str) -> ValidationIssue:
    """Return the issue of a field that a model does not have."""
    return refusal(contract, name, NOT_SHOWN, _no_such_field(contract, name))


def _no_such_field(model: Contract, name: str) -> str:
    hint = model.field_hint(name) or suggest(name, list(model.hints)).removeprefix("; ")
    field = repr(brief_name(name))
    return f"{NO_FIELD} {field} in {model.name}" + (f"; {hint}" if hint else "")


def _misspelt(missing: str, decoded: Mapping[str, Any], known: Collection[str]) -> str:
    """Return a hint at the field that was probably meant to be the missing one."""
    for name in decoded:
        if name not in known and did_you_mean(name, [missing]):
            return f"; {brief(name)} is not a field, was it meant?"
    return ""
