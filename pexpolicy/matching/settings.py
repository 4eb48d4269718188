"""Conditions as they are written: the tables of a ``when``, checked when they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from pexpolicy.config.settings import PluginSettings
from pexpolicy.matching.patterns import Pattern, PatternError, glob, quoted
from pexpolicy.matching.subjects import (
    kind_of,
    known_parameters,
    named_values,
    several_values,
)
from pexpolicy.matching.time_window import OnTime
from pexpolicy.subnets import read_subnet

NEGATION = "not_"
"""Before an operator: it holds where the operator itself does not."""
PATTERN_KEYS = ("regex", "not_regex", "glob", "not_glob")

Word = Annotated[str, Field(min_length=1)]
Words = Annotated[
    list[Word],
    Field(min_length=1),
    BeforeValidator(lambda written: [written] if isinstance(written, str) else written),
]
"""One operand, or several of which one is enough."""
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""A whole number as TOML has it; a longer one cannot be compared with a fraction."""
Number = Whole | Annotated[float, Field(allow_inf_nan=False)]


class _Operators(PluginSettings):
    """What every table of operators has in common; each operator that is given must hold."""

    exists: bool | None = None
    """True where there is a value at all, false where there is none."""

    @model_validator(mode="before")
    @classmethod
    def _value_alone(cls, written: Any) -> Any:
        """A value alone stands for ``equals``, a list alone for ``one_of``."""
        if isinstance(written, list):
            return {"one_of": written}
        return written if isinstance(written, dict | PluginSettings) else {"equals": written}

    @model_validator(mode="after")
    def _says_something(self) -> Any:
        if not self.model_fields_set - {"case_sensitive", "values"}:
            msg = 'says nothing yet; write a value, or an operator as in { prefix = "..." }'
            raise ValueError(msg)
        return self


class OnFlag(_Operators):
    """Operators on a parameter that is true or false."""

    equals: bool | None = None
    not_equals: bool | None = None


class OnNumber(_Operators):
    """Operators on a parameter that is a whole number."""

    equals: int | None = None
    not_equals: int | None = None
    one_of: Annotated[list[int], Field(min_length=1)] | None = None
    not_one_of: Annotated[list[int], Field(min_length=1)] | None = None
    greater: Number | None = None
    not_greater: Number | None = None
    less: Number | None = None
    not_less: Number | None = None


class TextOperators(_Operators):
    """Operators on a text; letters are compared without regard to case."""

    equals: Word | None = None
    not_equals: Word | None = None
    one_of: Annotated[list[Word], Field(min_length=1)] | None = None
    not_one_of: Annotated[list[Word], Field(min_length=1)] | None = None
    prefix: Words | None = None
    not_prefix: Words | None = None
    suffix: Words | None = None
    not_suffix: Words | None = None
    contains: Words | None = None
    not_contains: Words | None = None
    glob: Words | None = None
    """``*`` is any characters, ``?`` is one; the whole text must fit."""
    not_glob: Words | None = None
    regex: Words | None = None
    """In the syntax of RE2; the whole text must match."""
    not_regex: Words | None = None
    in_subnet: Words | None = None
    """Networks in CIDR notation; a text that is no address is in none."""
    not_in_subnet: Words | None = None
    greater: Number | None = None
    """A text that is a number and greater; one that is no number is neither greater nor less."""
    not_greater: Number | None = None
    less: Number | None = None
    not_less: Number | None = None
    case_sensitive: bool = False

    @field_validator(*PATTERN_KEYS)
    @classmethod
    def _patterns_compile(cls, patterns: Words | None, info: ValidationInfo) -> Words | None:
        compiled = glob if str(info.field_name).endswith("glob") else Pattern
        for written in patterns or ():
            try:
                compiled(written)
            except PatternError as error:
                msg = f"{quoted(written)} {error}"
                raise ValueError(msg) from None
        return patterns

    @field_validator("in_subnet", "not_in_subnet")
    @classmethod
    def _networks_are_known(cls, networks: Words | None) -> Words | None:
        for written in networks or ():
            read_subnet(written)
        return networks


class OnValues(TextOperators):
    """Operators on a name that may have several values."""

    values: Literal["any", "all"] = "any"
    """Whether one value is enough, or all of them must do; no value at all is never enough."""


class AliasOperators(TextOperators):
    """Operators on an alias in its normal form, and on its parts."""

    user: TextOperators | None = None
    host: TextOperators | None = None
    scheme: TextOperators | None = None
    raw: TextOperators | None = None
    """The text as it came, with scheme, port and parameters."""

    @field_validator("case_sensitive")
    @classmethod
    def _normal_form_has_no_case(cls, case_sensitive: bool) -> bool:  # noqa: FBT001 - a validator
        if case_sensitive:
            msg = "the normal form of an alias is lower case; write it below raw"
            raise ValueError(msg)
        return case_sensitive

    @field_validator("prefix", "not_prefix", "glob", "not_glob")
    @classmethod
    def _normal_form_has_no_scheme(cls, operands: Words | None) -> Words | None:
        for written in operands or ():
            scheme, colon, _ = written.lower().partition(":")
            if colon and scheme in ("sip", "sips", "h323", "tel"):
                msg = (
                    f"{written!r} never fits: the normal form of an alias has no scheme; leave "
                    "it out, or write it below raw"
                )
                raise ValueError(msg)
        return operands


class Conditions(PluginSettings):
    """The part of a ``when`` that is no parameter; everything that is given must hold."""

    all: Annotated[list[When], Field(min_length=1)] | None = None
    """Each of these must hold."""
    any: Annotated[list[When], Field(min_length=1)] | None = None
    """One of these must hold."""
    none: Annotated[list[When], Field(min_length=1)] | None = None
    """None of these may hold."""
    time: OnTime | None = None
    """When the call comes."""
    peer: TextOperators | None = None
    """Address of whoever asked us: the Conferencing Node, or the proxy before us."""
    params: Annotated[dict[Word, OnValues], Field(min_length=1)] | None = None
    """Parameters by their names on the wire, documented or not."""


if TYPE_CHECKING:

    class When(Conditions):
        """What a request must be like. Each key is a parameter of a request, and all must hold."""

else:
    _TABLES = {"alias": AliasOperators, "number": OnNumber, "flag": OnFlag, "text": TextOperators}

    def _table_of(read: Any) -> Any:
        if named_values(read):
            return Annotated[dict[Word, OnValues], Field(min_length=1)]
        return OnValues if several_values(read) else _TABLES[kind_of(read)]

    When = create_model(
        "When",
        __base__=Conditions,
        __module__=__name__,
        __doc__="What a request must be like. Each key is a parameter of a request.",
        alias=(AliasOperators | None, None),
        **{n: (_table_of(p.read) | None, None) for n, p in known_parameters().items()},
    )
    Conditions.model_rebuild(_types_namespace={"When": When, "OnTime": OnTime})
    When.model_rebuild(force=True)
