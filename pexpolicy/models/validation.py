"""The validation of fields: every issue with its place, the type that is wanted, and advice."""

from __future__ import annotations

import re
import types
from collections.abc import Collection, Iterator, Mapping
from types import SimpleNamespace
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
from pexpolicy.models.rules import Field, Privacy, Rule
from pexpolicy.text import article, brief, brief_name, did_you_mean, suggest


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


def _advice(hint: Any, value: Any) -> str:
    """Return a suggestion for a wrong value, after a semicolon, or nothing."""
    if value is None and UnsetType in get_args(hint):
        return "; leave the field out for the default of Infinity"
    kinds = alternatives(hint)
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    types = {get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in kinds}
    if isinstance(value, str):
        return "; write it without quotes" if types & {bool, int} else did_you_mean(value, words)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return "; write it in quotes" if is_number and str in types else ""


NO_FIELD = "there is no field"
"""The beginning of the rule that a field breaks which its model does not have."""
MAX_TEXT = 250
"""Maximum length of a text in Infinity (transcribed)."""
MAX_CHECKED = 100_000
"""Characters of a text above which nothing else is said about it."""
MAX_NAMED = 5
"""Unknown fields that have a warning each."""
MAX_UNKNOWN, MAX_UNKNOWN_BYTES = 100, 16 * 1024
"""Unknown fields of a dictionary, and their size in JSON."""
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
        first = next(find_issues(contract, fields, extras), None)
        raise DecisionError(first or refusal(contract, "", NOT_SHOWN, _why(error))) from None
    unknown = list(_unknown(contract, decoded))
    size = sum(len(render({name: value})) for _, _, name, value in unknown)
    if not known_only and (len(unknown) > MAX_UNKNOWN or size > MAX_UNKNOWN_BYTES):
        text = f"{len(unknown)} fields of {size} bytes do not exist: at most {MAX_UNKNOWN} fields"
        text += f" of {MAX_UNKNOWN_BYTES} bytes are accepted"
        raise DecisionError(refusal(contract, "", NOT_SHOWN, text))
    for place, model, name, value in unknown:
        text = _no_such_field(model, name)
        if known_only:
            raise DecisionError(refusal(contract, place + name, NOT_SHOWN, text))
        if isinstance(value, str) and len(value) > MAX_TEXT:
            rule = f"text of more than {MAX_TEXT} characters"
            raise DecisionError(refusal(contract, place + name, NOT_SHOWN, rule))
        text = f"{place}{brief_name(name)}: {text}"
        warnings.append(f"{text}; Infinity appears to ignore it [reported]")
    if len(unknown) > MAX_NAMED:
        del warnings[MAX_NAMED - len(unknown) :]
        warnings.append("there are more fields that do not exist [reported]")
    return result, sent, tuple(warnings)


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
    gone = {*extras.plain(contract, fields), *needed} - rest.keys()
    sent = msgspec.json.decode(result, type=kind)
    valid = SimpleNamespace(**{n: getattr(sent, n) for n in contract.names - gone})
    for place, rule, value in broken_rules(contract, valid):
        if rule.refused:
            yield refusal(contract, place + rule.field, value, rule.text, rule.mark)


def _unreadable(
    contract: Contract, kind: type[msgspec.Struct], fields: dict[str, Any]
) -> ValidationIssue | None:
    try:
        result = render(fields)
    except Exception as error:  # noqa: BLE001 - what is read may raise anything
        return _unwritable(contract, fields, error)
    try:
        msgspec.json.decode(result, type=kind)
    except (msgspec.ValidationError, RecursionError) as error:
        return _unfit(contract, msgspec.json.decode(result), str(error))
    return None


def broken_rules(
    model: Contract, item: Any, names: Collection[str] | None = None, place: str = ""
) -> Iterator[tuple[str, Rule, Any]]:
    """Yield place, rule and value of each broken rule of a model and its nested models.

    ``names`` are those of the fields that are set, if they are known. A rule that reads a field
    that ``item`` does not have, as it is reported already, is not broken.
    """
    by_field = model.rules_by_field
    for name in by_field if names is None else names:
        for rule in by_field.get(name, ()):
            try:
                value = getattr(item, name)
                is_broken = value is not msgspec.UNSET and rule.broken(item)
            except AttributeError:
                continue
            if is_broken:
                yield place, rule, value
    for name, inner in model.nested_models.items():
        if names is not None and name not in names:
            continue
        value = getattr(item, name, None)
        for number, part in enumerate(value) if isinstance(value, list) else ((None, value),):
            if isinstance(part, msgspec.Struct):
                at = "" if number is None else f"[{number}]"
                yield from broken_rules(inner, part, place=f"{place}{name}{at}.")


def refusal(
    contract: Contract, place: str, value: Any, rule: str, mark: str = ""
) -> ValidationIssue:
    """Return the issue of the field at a place such as ``automatic_participants[0].role``."""
    field, is_secret = _field_at(contract, place)
    return ValidationIssue(
        model=contract.name,
        field=place,
        value=value,
        shown=value is not NOT_SHOWN and not is_secret,
        rule=rule,
        mark=str(mark or (field.mark if field else "")),
        consequence=contract.consequence,
    )


def _unwritable(contract: Contract, fields: Mapping[str, Any], error: Exception) -> ValidationIssue:
    for name, value in fields.items():
        try:
            render({name: value})
        except Exception as cause:  # noqa: BLE001 - as above
            place = name if type(name) is str and name.isidentifier() else ""
            is_readable = type(value) is not str or value.isprintable()
            return refusal(contract, place, value if is_readable else NOT_SHOWN, _why(cause))
    return refusal(contract, "", NOT_SHOWN, _why(error))


def _why(error: Exception) -> str:
    text = str(error.__cause__ or error)[:200]
    return text if isinstance(error, TypeError) else f"cannot be read: {type(error).__name__}"


def _unfit(contract: Contract, decoded: Mapping[str, Any], message: str) -> ValidationIssue:
    """Return the issue of the field that an error message of msgspec names."""
    found = re.fullmatch(r"(.*) - at `\$\.?(.*)`", message, re.DOTALL)
    complaint, place = found.groups() if found else (message, "")
    steps = [name or int(number) for name, number in _STEP.findall(f".{place}")]
    value: Any = decoded
    for step in steps:
        value = value[step]
    if complaint.startswith("Object missing required field `"):
        missing = complaint.rpartition(" `")[2].rstrip("`")
        where = f"{place}.{missing}" if place else missing
        return refusal(contract, where, NOT_SHOWN, "is required")
    text = f"must be {article(contract.name)} or its fields"
    if steps:
        hint = _type_at(contract, steps)
        text = f"must be {wanted(hint)}{_advice(hint, value)}"
    return refusal(contract, place, value, text)


def _type_at(contract: Contract, steps: Collection[str | int]) -> Any:
    hint: Any = None
    for step in steps:
        if isinstance(step, int):
            hint = next(k for k in alternatives(hint) if getattr(k, "__origin__", None) is list)
            hint = hint.__args__[0]
        else:
            model = contract if hint is None else contract_of(next(models_in(hint)))
            hint = model.hints[step]
    return hint


def _field_at(contract: Contract, place: str) -> tuple[Field | None, bool]:
    """Return the field at a place, and whether it is secret; unknown fields count as secret."""
    model, field = contract, None
    for name, _ in _STEP.findall(f".{place}"):
        if not name:
            continue
        if name not in model.names:
            return None, True
        field = model.field(name)
        if field.privacy is Privacy.SECRET:
            return field, True
        model = model.nested_models.get(name, model)
    return field, False


def _unknown(
    contract: Contract, decoded: Mapping[str, Any]
) -> Iterator[tuple[str, Contract, str, Any]]:
    return (found for found in fields_in(contract, decoded) if found[2] not in found[1].names)


def unknown_field(contract: Contract, name: str) -> ValidationIssue:
    """Return the issue of a field that a model does not have."""
    return refusal(contract, name, NOT_SHOWN, _no_such_field(contract, name))


def _no_such_field(model: Contract, name: str) -> str:
    field = repr(brief_name(name))
    return f"{NO_FIELD} {field} in {model.name}{suggest(name, list(model.hints))}"


def _misspelt(missing: str, decoded: Mapping[str, Any], known: Collection[str]) -> str:
    """Return a hint at the field that was probably meant to be the missing one."""
    meant = (n for n in decoded if n not in known and did_you_mean(n, [missing]))
    return next((f"; {brief(name)} is not a field, was it meant?" for name in meant), "")
