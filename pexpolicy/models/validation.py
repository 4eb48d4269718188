"""The validation of fields: every issue with its place, the type that is wanted, and advice."""

from __future__ import annotations

import types
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pexpolicy.models.contract import (
    Contract,
    Extras,
    alternatives,
    broken_rules,
    contract_of,
    in_form,
    models_in,
    objects_in,
    render,
)
from pexpolicy.models.errors import DecisionError, ValidationIssue, steps_of
from pexpolicy.models.rules import Field, Privacy
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


MAX_TEXT = 250
"""Maximum length of a text in Infinity (transcribed)."""
MAX_NAMED = 5
"""Unknown fields that have a warning each."""
MAX_UNKNOWN, MAX_UNKNOWN_BYTES = 100, 16 * 1024
"""Unknown fields of a dictionary, and their size in JSON."""
NOT_SHOWN = object()


def check_in_detail(
    contract: Contract, fields: dict[str, Any], extras: Extras, *, known_only: bool
) -> tuple[bytes, Any, tuple[str, ...]]:
    """Return the JSON of fields, the decoded fields, and warnings; raise ``DecisionError``.

    Unknown fields are refused where ``known_only`` is true; otherwise they have a warning.
    """
    sent = None
    with suppress(Exception):  # what is read may raise anything
        result = render(fields)
        decoded = msgspec.json.decode(result)
        warnings = [f"{text} [reported]" for text in extras.remove_from(contract, decoded)]
        sent = msgspec.convert(decoded, contract.lenient)
    if sent is None or known_only:
        for issue in find_issues(contract, fields, extras, known_only=known_only):
            raise DecisionError(issue)
    unknown = list(_unknown(contract, decoded))
    size = sum(len(render({name: value})) for _, _, name, value in unknown)
    if len(unknown) > MAX_UNKNOWN or size > MAX_UNKNOWN_BYTES:
        text = f"{len(unknown)} fields of {size} bytes do not exist: at most {MAX_UNKNOWN} fields"
        text += f" of {MAX_UNKNOWN_BYTES} bytes are accepted"
        raise DecisionError(refusal(contract, "", NOT_SHOWN, text))
    for place, model, name, value in unknown:
        if isinstance(value, str) and len(value) > MAX_TEXT:
            rule = f"text of more than {MAX_TEXT} characters"
            raise DecisionError(refusal(contract, place + name, NOT_SHOWN, rule))
        text = f"{place}{brief_name(name)}: {_no_such_field(model, name)}"
        warnings.append(f"{text}; Infinity appears to ignore it [reported]")
    if len(unknown) > MAX_NAMED:
        del warnings[MAX_NAMED - len(unknown) :]
        warnings.append("there are more fields that do not exist [reported]")
    return result, sent, tuple(warnings)


def find_issues(
    contract: Contract, fields: Mapping[str, Any], extras: Extras, *, known_only: bool
) -> Iterator[ValidationIssue]:
    """Yield every reason to refuse fields; unknown ones are one where ``known_only`` is true.

    Rules are evaluated for valid fields only, so that no issue follows from another one.
    """
    issues, decoded, values = _read(contract, {**contract.constants, **fields}, extras)
    yield from issues
    needed = [n for n, one in contract.defaults.items() if one is ... and n not in fields]
    for name in needed:
        text = "is required" + _misspelt(name, decoded, contract.names)
        yield refusal(contract, name, NOT_SHOWN, text)
    for place, model, name, _ in _unknown(contract, decoded) if known_only else ():
        if place or not did_you_mean(name, needed):
            yield refusal(contract, place + name, NOT_SHOWN, _no_such_field(model, name))
    valid = contract.names.difference(needed, fields.keys() - decoded.keys())
    sent = SimpleNamespace(**dict.fromkeys(valid, UNSET) | values)
    for place, rule, value in broken_rules(contract, sent, valid):
        if rule.refused:
            yield refusal(contract, place + rule.field, value, rule.text, rule.mark)


def _read(
    contract: Contract, fields: Mapping[str, Any], extras: Extras
) -> tuple[list[ValidationIssue], dict[str, Any], dict[str, Any]]:
    """Return what is wrong with single fields, those in JSON that are right, and their values."""
    issues = list[ValidationIssue]()
    decoded, values = dict[str, Any](), dict[str, Any]()
    for name, value in fields.items():
        part = dict[str, Any]()
        try:
            part |= msgspec.json.decode(render({name: value}))
            extras.remove_from(contract, part)
            for known in contract.names & part.keys():
                kind = in_form(contract.hints[known], "lenient")
                values[known] = msgspec.convert(part[known], kind)
        except msgspec.ValidationError as error:
            issues.append(_unfit(contract, part, name, str(error)))
        except Exception as error:  # noqa: BLE001 - what is read may raise anything
            issues.append(_unreadable(contract, name, value, error))
        else:
            decoded |= part
    return issues, decoded, values


def refusal(
    contract: Contract, place: str, value: Any, rule: str, mark: str = ""
) -> ValidationIssue:
    """Return the issue of the field at a place such as ``automatic_participants[0].role``."""
    _, field, is_secret = _declared(contract, steps_of(place))
    return ValidationIssue(
        model=contract.name,
        field=place,
        value=value,
        shown=value is not NOT_SHOWN and not is_secret,
        rule=rule,
        mark=str(mark or (field.mark if field else "")),
        consequence=contract.consequence,
    )


def _unreadable(contract: Contract, name: Any, value: Any, error: Exception) -> ValidationIssue:
    """Return the issue of a field that JSON cannot have."""
    place = name if type(name) is str and name.isidentifier() else ""
    why = f"cannot be read: {type(error).__name__}"
    if isinstance(error, TypeError):
        why = str(error.__cause__ or error)[:200]
    is_shown = type(value) is not str or value.isprintable()
    return refusal(contract, place, value if is_shown else NOT_SHOWN, why)


def _unfit(
    contract: Contract, decoded: Mapping[str, Any], name: str, message: str
) -> ValidationIssue:
    """Return the issue of a field, or of the place in it that an error message of msgspec names."""
    complaint, _, inner = message.rstrip("`").partition(" - at `$")
    place = name + inner
    if complaint.startswith("Object missing required field"):
        missing = complaint.rpartition(" `")[2].rstrip("`")
        return refusal(contract, f"{place}.{missing}", NOT_SHOWN, "is required")
    steps = steps_of(place)
    value: Any = decoded
    for step in steps:
        value = value[step]
    hint, _, _ = _declared(contract, steps)
    return refusal(contract, place, value, f"must be {wanted(hint)}{_advice(hint, value)}")


def _declared(contract: Contract, steps: Collection[str | int]) -> tuple[Any, Field | None, bool]:
    """Return the type of a field, what distinguishes it, and whether it is secret, as unknown
    fields may be.
    """
    hint, field, model = None, None, contract
    for step in steps:
        if isinstance(step, int):
            hint = next(get_args(k)[0] for k in alternatives(hint) if get_origin(k) is list)
            continue
        model = next(map(contract_of, models_in(hint)), model)
        if step not in model.names:
            return None, None, True
        hint, field = model.hints[step], model.field(step)
        if field.privacy is Privacy.SECRET:
            return hint, field, True
    return hint, field, False


def _unknown(
    contract: Contract, decoded: dict[str, Any]
) -> Iterator[tuple[str, Contract, str, Any]]:
    for place, model, fields in objects_in(contract, decoded):
        for name in [name for name in fields if name not in model.names]:
            yield place, model, name, fields[name]


def unknown_field(contract: Contract, name: str) -> ValidationIssue:
    """Return the issue of a field that a model does not have."""
    return refusal(contract, name, NOT_SHOWN, _no_such_field(contract, name))


def _no_such_field(model: Contract, name: str) -> str:
    field = repr(brief_name(name))
    return f"there is no field {field} in {model.name}{suggest(name, list(model.hints))}"


def _misspelt(missing: str, decoded: Mapping[str, Any], known: Collection[str]) -> str:
    """Return a hint at the field that was probably meant to be the missing one."""
    meant = (n for n in decoded if n not in known and did_you_mean(n, [missing]))
    return next((f"; {brief(name)} is not a field, was it meant?" for name in meant), "")
