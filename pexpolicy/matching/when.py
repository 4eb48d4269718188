"""The table ``when``: its settings, and their compilation to a condition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
    field_validator,
    model_validator,
)

from pexpolicy.config.plugin_settings import PluginSettings
from pexpolicy.matching.conditions import (
    All,
    AnyOf,
    Comparison,
    Condition,
    FindList,
    InSource,
    NoneOf,
    OtherValue,
    TimeCondition,
    clause,
    flattened,
    group_names,
)
from pexpolicy.matching.patterns import Pattern, PatternError, glob, quoted
from pexpolicy.matching.subjects import ALIAS_PARTS, form_of, known_parameters, subject
from pexpolicy.matching.time_window import TimeOperators
from pexpolicy.models.context import WallClock, wall_clock
from pexpolicy.models.subnets import read_subnet
from pexpolicy.text import suggest

VALUE_LISTS = "value_lists"
"""Key in the context of a validation: the names that ``in_source`` may use."""
NEGATION = "not_"
"""Prefix of an operator that matches where the operator itself does not."""

Word = Annotated[str, Field(min_length=1)]
Words = Annotated[
    list[Word],
    Field(min_length=1),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
]
"""One operand, or several of which one must match."""
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""An integer of TOML; a larger one cannot be compared with a float."""
Number = Whole | Annotated[float, Field(allow_inf_nan=False)]


class ValueOf(PluginSettings):
    """Another value of the request, instead of an operand that is written."""

    value_of: str
    """Any key of a condition, such as ``service_tag`` or ``remote_alias.user``."""
    regex: str | None = None
    """A pattern for the whole of that value; its first group is compared."""

    @field_validator("value_of")
    @classmethod
    def _is_known(cls, key: str) -> str:
        subject(key)
        return key

    @field_validator("regex")
    @classmethod
    def _has_a_group(cls, source: str | None) -> str | None:
        if source is not None and not _checked(Pattern, source).names:
            raise ValueError(f"{quoted(source)} has no group: put what is compared in parentheses")
        return source


def _or_value_of(written: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    if isinstance(written, dict):
        return ValueOf.model_validate(written)
    return written if isinstance(written, ValueOf) else validate(written)


def _checked(compiled: Callable[[str], Pattern], source: str) -> Pattern:
    try:
        return compiled(source)
    except PatternError as error:
        raise ValueError(f"{quoted(source)} {error}") from None


OR_VALUE_OF = WrapValidator(_or_value_of)
"""Takes a table ``ValueOf`` where a field has another type."""
_CHECKS: dict[str, Callable[[str], object]] = {
    "regex": partial(_checked, Pattern),
    "glob": partial(_checked, glob),
    "in_subnet": read_subnet,
}
WordOrValue = Annotated[Word, OR_VALUE_OF]
NumberOrValue = Annotated[Number, OR_VALUE_OF]


class _Operators(PluginSettings):
    """The base of all tables of operators; each operator that is set must match."""

    exists: bool | None = None
    """True if there is any value, false if there is none."""

    @model_validator(mode="before")
    @classmethod
    def _expand_short_form(cls, value: Any) -> Any:
        """Turn a single value into ``equals`` and a list into ``one_of``."""
        if isinstance(value, list):
            return {"one_of": value}
        if isinstance(value, dict) and "value_of" in value:
            return {"equals": value}
        return value if isinstance(value, dict | PluginSettings) else {"equals": value}

    @model_validator(mode="after")
    def _is_not_empty(self) -> Any:
        if not self.model_fields_set - {"case_sensitive", "values"}:
            raise ValueError('is empty; write a value, or an operator as in { prefix = "..." }')
        return self


class FlagOperators(_Operators):
    """Operators on a parameter that is true or false."""

    equals: bool | None = None
    not_equals: bool | None = None


class _Ordering(_Operators):
    """Operators on what may be a number; a text that is none is neither greater nor less."""

    greater: NumberOrValue | None = None
    not_greater: NumberOrValue | None = None
    less: NumberOrValue | None = None
    not_less: NumberOrValue | None = None


class NumberOperators(_Ordering):
    """Operators on a parameter that is a whole number."""

    equals: Annotated[int, OR_VALUE_OF] | None = None
    not_equals: Annotated[int, OR_VALUE_OF] | None = None
    one_of: Annotated[list[int], Field(min_length=1)] | None = None
    not_one_of: Annotated[list[int], Field(min_length=1)] | None = None


class TextOperators(_Ordering):
    """Operators on a text; case is ignored."""

    equals: WordOrValue | None = None
    not_equals: WordOrValue | None = None
    one_of: Annotated[list[Word], Field(min_length=1)] | None = None
    not_one_of: Annotated[list[Word], Field(min_length=1)] | None = None
    prefix: Words | None = None
    not_prefix: Words | None = None
    suffix: Words | None = None
    not_suffix: Words | None = None
    contains: Words | None = None
    not_contains: Words | None = None
    glob: Words | None = None
    """``*`` is any text, ``?`` is one character; the whole text must match."""
    not_glob: Words | None = None
    regex: Words | None = None
    """Patterns in the syntax of RE2; the whole text must match."""
    not_regex: Words | None = None
    in_subnet: Words | None = None
    """Networks in CIDR notation; a text that is not an address is in none."""
    not_in_subnet: Words | None = None
    in_source: Words | None = None
    """Names of lists of the plugin, whose values come from a source."""
    not_in_source: Words | None = None
    case_sensitive: bool = False

    @field_validator("glob", "not_glob", "regex", "not_regex", "in_subnet", "not_in_subnet")
    @classmethod
    def _operands_are_valid(cls, operands: Words | None, info: ValidationInfo) -> Words | None:
        check = _CHECKS[str(info.field_name).removeprefix(NEGATION)]
        for operand in operands or ():
            check(operand)
        return operands

    @field_validator("in_source", "not_in_source")
    @classmethod
    def _lists_are_known(cls, names: Words | None, info: ValidationInfo) -> Words | None:
        known: Any = (info.context or {}).get(VALUE_LISTS)
        if names and known is None:
            raise ValueError("works in rules only: this plugin has no lists of sources")
        for name in names or ():
            if name not in known:
                raise ValueError(f"there is no list {name!r} in sources{suggest(name, known)}")
        return names


class MultiValueOperators(TextOperators):
    """Operators on a name that may have several values in a request."""

    values: Literal["any", "all"] = "any"
    """Whether any value or all values must match; without a value nothing matches."""


class AliasOperators(TextOperators):
    """Operators on an alias in its normal form, and on its parts."""

    user: TextOperators | None = None
    host: TextOperators | None = None
    scheme: TextOperators | None = None
    raw: TextOperators | None = None
    """The original text, with scheme, port and parameters."""

    @field_validator("case_sensitive")
    @classmethod
    def _normal_form_has_no_case(cls, case_sensitive: bool) -> bool:  # noqa: FBT001 - a validator
        if case_sensitive:
            raise ValueError("the normal form of an alias is lower case; write it below raw")
        return case_sensitive

    @field_validator("prefix", "not_prefix", "glob", "not_glob")
    @classmethod
    def _normal_form_has_no_scheme(cls, operands: Words | None) -> Words | None:
        for operand in operands or ():
            scheme, colon, _ = operand.lower().partition(":")
            if colon and scheme in ("sip", "sips", "h323", "tel"):
                raise ValueError(
                    f"{operand!r} never matches: the normal form of an alias has no scheme; leave "
                    "it out, or write it below raw"
                )
        return operands


class LiveOperators(PluginSettings):
    """What Infinity's events tell, with the plugin ``live``."""

    tenant: NumberOperators | None = None
    """Participants of the tenant of the dialed alias or service tag."""
    service: NumberOperators | None = None
    """Participants of the service."""
    hosts: NumberOperators | None = None
    """Hosts in the service."""
    waiting: NumberOperators | None = None
    """Participants who wait for being admitted to the service."""
    stale: FlagOperators | None = None
    """True while events are missing, so that the numbers may be wrong."""


class Conditions(PluginSettings):
    """The keys of a ``when`` that are not parameters; every key that is set must match."""

    all: Annotated[list[When], Field(min_length=1)] | None = None
    """All of these must match."""
    any: Annotated[list[When], Field(min_length=1)] | None = None
    """One of these must match."""
    none: Annotated[list[When], Field(min_length=1)] | None = None
    """None of these may match."""
    time: TimeOperators | None = None
    """The time of the call."""
    peer: TextOperators | None = None
    """Address of the client: the Conferencing Node, or the proxy in front of this server."""
    environment: TextOperators | None = None
    """The platform that asks, of ``[environments]``."""
    live: LiveOperators | None = None
    """Who is in the conferences now."""
    params: Annotated[dict[Word, MultiValueOperators], Field(min_length=1)] | None = None
    """Parameters by their names in the query, documented or not."""


if TYPE_CHECKING:

    class When(Conditions):
        """Conditions on a request. Each key is a parameter of a request, and all must match."""

else:
    _TABLES = {
        "alias": AliasOperators,
        "number": NumberOperators,
        "flag": FlagOperators,
        "text": TextOperators,
        "several": MultiValueOperators,
        "named": Annotated[dict[Word, MultiValueOperators], Field(min_length=1)],
    }
    When = create_model(
        "When",
        __base__=Conditions,
        __module__=__name__,
        __doc__="Conditions on a request. Each key is a parameter of a request.",
        alias=(AliasOperators | None, None),
        **{n: (_TABLES[form_of(p)] | None, None) for n, p in known_parameters().items()},
    )
    Conditions.model_rebuild(_types_namespace={"When": When, "TimeOperators": TimeOperators})
    When.model_rebuild(force=True)


def _asks(condition: Condition) -> bool:
    return any(isinstance(one, InSource) for one in flattened(condition))


_OPTIONS = ("case_sensitive", "values")
_GROUPS: dict[str, Callable[[tuple[Condition, ...]], Condition]] = {
    "all": All,
    "any": AnyOf,
    "none": NoneOf,
}


def compile_when(
    when: When, clock: WallClock | None = None, find_list: FindList | None = None
) -> Condition:
    """Return the condition of a ``when``; an empty one matches every request.

    ``clock`` returns seconds since 1970; by default it is ``wall_clock()``. ``find_list`` returns
    the lists of ``in_source``, whose names the validation of ``when`` has checked.
    """
    clock = clock or wall_clock()
    parts: list[Condition] = []
    for key in _set_keys(when):
        table = getattr(when, key)
        if key in _GROUPS:
            inner = [compile_when(one, clock, find_list) for one in table]
            if key == "any" and not any(map(group_names, inner)):
                inner.sort(key=_asks)
            parts.append(_GROUPS[key](tuple(inner)))
        elif key == "time":
            parts.append(TimeCondition(table, clock))
        else:
            parts += _of_key(key, table, find_list)
    # A request waits for a source only where the other parts do not settle the result.
    parts.sort(key=lambda part: _asks(part) and not group_names(part))
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def compile_value_of(written: ValueOf) -> OtherValue:
    """Return what reads the value that a ``ValueOf`` names."""
    pattern = Pattern(written.regex) if written.regex is not None else None
    return OtherValue(subject(written.value_of), pattern)


def _set_keys(tables: Any) -> list[str]:
    """Return the keys that are set, in the order of the model."""
    return [key for key in type(tables).model_fields if getattr(tables, key) is not None]


def _of_key(key: str, table: Any, find_list: FindList | None) -> Iterator[Condition]:
    """Yield the conditions of the operators on one subject, on the parts of an alias, or on each
    name in a table of names.
    """
    if isinstance(table, dict | LiveOperators):
        for name, operators in dict(table).items():
            if operators is not None:
                yield from _of_key(f"{key}.{name}", operators, find_list)
        return
    tested = subject(key)
    every = getattr(table, "values", "any") == "all"
    case_sensitive = getattr(table, "case_sensitive", False)
    for name in _set_keys(table):
        operands = getattr(table, name)
        operator = name.removeprefix(NEGATION)
        how = {"negated": name.startswith(NEGATION), "every": every}
        if name in ALIAS_PARTS:
            yield from _of_key(f"{key}.{name}", operands, find_list)
        elif name in _OPTIONS:
            continue
        elif isinstance(operands, ValueOf):
            other = compile_value_of(operands)
            yield Comparison(tested, operator, other, case_sensitive, **how)
        elif operator == "in_source":
            assert find_list is not None, "the validation refuses in_source without lists"
            lists = tuple(find_list(one, tested.kind) for one in operands)
            yield InSource(tested, operator, tuple(operands), lists, **how)
        else:
            operator = "equals" if operator == "one_of" else operator
            operands = tuple(operands) if isinstance(operands, list) else (operands,)
            yield clause(tested, operator, operands, case_sensitive=case_sensitive, **how)
