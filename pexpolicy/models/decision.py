"""Decisions and the models inside of them: fields that are rendered, and validated as rendered.

A class lists its fields with their types. When an instance is made, the fields are written as JSON,
and that JSON is checked against the types and the rules of the class. The instance keeps the JSON
only. So the checked bytes are the bytes that are sent, whatever happens to the fields later.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Container, Mapping
from functools import lru_cache
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    NoReturn,
    Self,
    cast,
    dataclass_transform,
    get_origin,
    get_type_hints,
)

import msgspec
import orjson
from msgspec import UNSET, Meta, UnsetType

from pexpolicy.models.alias import SCHEMES
from pexpolicy.models.contract import (
    NO_EXTRAS,
    Contract,
    Extras,
    ModelBase,
    broken_rules,
    contract_of,
    mask_secrets,
    render,
)
from pexpolicy.models.errors import DecisionError, ValidationIssue
from pexpolicy.models.rules import PERSONAL, Confidence, Rule
from pexpolicy.models.validation import (
    MAX_TEXT,
    check_in_detail,
    find_issues,
    refusal,
    unknown_field,
)

Unset = UnsetType
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
"""Text of at most 250 characters, the limit of Infinity (transcribed)."""
Name = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
OptionalText = Text | Unset
OptionalName = Name | Unset
OptionalBool = bool | Unset
Action = Literal["continue", "reject", "redirect"]

_CONSTANTS = frozenset({str, int, bool, type(None), Unset})
"""Types of values that cannot change after a decision was made of them."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.")
_BROKEN_LINE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")
_ADDRESS = re.compile(r"[^@]+(?:@[^@]+)?")

assign = object.__setattr__
"""Sets an attribute of a frozen class; for its own constructors only."""


class Checked(msgspec.Struct, gc=False):
    """Fields that were checked, in JSON, and what was made of them since.

    The garbage collector does not visit it: a decision does not hold itself, and there are many.
    """

    result: bytes
    warnings: tuple[str, ...]
    redacted_by: object = None
    """The ``Redaction`` of the audit that has set ``redacted``, or ``None``."""
    redacted: tuple[dict[str, Any], list[str]] | None = None
    """The fields without secrets, and the names of removed ones; ``None`` if nothing is removed."""


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Model(ModelBase):
    """Fields under their names on the wire, rendered and checked when the instance is made.

    Raise ``DecisionError`` for a field that does not exist, is missing or has a wrong type, and for
    a broken rule that Pexip documents. Other broken rules become ``warnings``.
    """

    __slots__ = ("_checked", "warnings")

    _contract = Contract()
    _checked: Checked

    result: bytes
    """The fields in JSON, as they are sent."""
    warnings: tuple[str, ...]
    """Broken rules that may invalidate the answer; the sources disagree on them."""

    def __init__(self, /, **fields: Any) -> None:
        self._check(fields)

    def __init_subclass__(cls, **declared: Any) -> None:
        """Make the contract of the annotations, and of what the first line of the class declares:
        ``class Reject(Decision, fields=…)``.
        """
        super().__init_subclass__()
        hints = {
            name: hint
            for name, hint in get_type_hints(cls, include_extras=True).items()
            if get_origin(hint) is not ClassVar and name not in _OWN_ATTRIBUTES
        }
        defaults = {n: d for base in cls.__bases__ for n, d in contract_of(base).defaults.items()}
        defaults |= {name: vars(cls).get(name, ...) for name in cls.__annotations__}
        contract = cls._contract = dataclasses.replace(
            cls._contract,
            model=cls,
            hints=hints,
            defaults={name: defaults[name] for name in hints},
            **declared,
        )
        for name in contract.names & vars(cls).keys():
            delattr(cls, name)

    @classmethod
    def from_result(
        cls, fields: Mapping[str, Any], *, extras: Extras = NO_EXTRAS, strict: bool = False
    ) -> Self:
        """Make an instance from a dictionary; keep unknown fields, with a warning.

        Infinity appears to tolerate unknown fields (reported), and its releases add new ones. Where
        ``strict`` is true, only those are accepted that ``extras`` lists.
        """
        checked = cls.__new__(cls)
        checked._check(dict(fields), extras, known_only=strict or cls._contract.forbid_unknown)  # noqa: SLF001 - its own
        return checked

    @classmethod
    def find_issues(
        cls, fields: Mapping[str, Any], extras: Extras = NO_EXTRAS, *, known_only: bool = True
    ) -> list[ValidationIssue]:
        """Return every issue of these fields; making an instance raises the first.

        Without ``known_only``, unknown fields are none.
        """
        return list(find_issues(cls._contract, fields, extras, known_only=known_only))

    def _check(
        self, fields: dict[str, Any], extras: Extras = NO_EXTRAS, *, known_only: bool = True
    ) -> None:
        contract = self._contract
        for name, value in contract.constants.items():
            fields.setdefault(name, value)
        try:
            # orjson returns part of a larger block, which would stay allocated for the life of a
            # room: 4 KB each. Joining makes a copy of the exact size.
            checked = _check_result(contract, b"".join((render(fields), b"")))
        except DecisionError:
            raise
        except Exception:  # noqa: BLE001 - values of a plugin may raise anything
            checked = None
        if checked is None:
            # After the handler: the context of an error that is raised in it has values.
            given = {name: value for name, value in fields.items() if value is not UNSET}
            if len(given) < len(fields):
                Model._check(self, given, extras, known_only=known_only)
                return
            result, sent, warnings = check_in_detail(
                contract, fields, extras, known_only=known_only
            )
            warnings += _rule_warnings(contract, sent, fields)
            checked = Checked(b"".join((result, b"")), warnings)
        assign(self, "_checked", checked)
        assign(self, "result", checked.result)
        assign(self, "warnings", checked.warnings)

    if not TYPE_CHECKING:  # a type checker knows the fields, and reports others

        def __getattr__(self, name: str) -> Any:
            if name not in self._contract.names:
                raise AttributeError(f"{type(self).__name__} has no field {name!r}")
            try:
                sent = msgspec.json.decode(self.result, type=self._contract.lenient)
            except msgspec.ValidationError:  # an extra value that the operator lists
                return self.set_fields().get(name, UNSET)
            return getattr(sent, name)

    def __setattr__(self, name: str, value: object = None) -> NoReturn:
        hint = f"write replace({name}=...), which returns" if hasattr(self, "replace") else "make"
        raise AttributeError(f"{type(self).__name__} is frozen: {hint} a new one")

    __delattr__ = __setattr__

    def __copy__(self, _: object = None) -> Self:
        return self

    __deepcopy__ = __copy__

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return False
        mine, theirs = self.result, cast("Self", other).result
        # The order of the fields counts neither for Infinity nor here.
        return mine == theirs or (
            len(mine) == len(theirs) and orjson.loads(mine) == orjson.loads(theirs)
        )

    def __hash__(self) -> int:
        return hash((type(self), sum(self.result)))

    def __repr__(self) -> str:
        fields = self.set_fields()
        mask_secrets(self._contract, fields)
        inside = ", ".join(f"{name}={value!r}" for name, value in fields.items())
        return f"{type(self).__name__}({inside})"

    def set_fields(self) -> dict[str, Any]:
        """Return the fields that were set, as plain values."""
        decoded = msgspec.json.decode(self.result)
        return decoded if isinstance(decoded, dict) else {}


_OWN_ATTRIBUTES = frozenset({*ModelBase.__annotations__, *Model.__annotations__})


@lru_cache(maxsize=10_000)
def _check_result(contract: Contract, result: bytes) -> Checked:
    """Check the JSON of fields; raise ``DecisionError``, or another error for a wrong type.

    Most decisions are made again and again: a room has the same fields at each of its calls.
    """
    return Checked(result, _rule_warnings(contract, contract.decode(result), contract.names))


def _rule_warnings(contract: Contract, sent: object, names: Container[str]) -> tuple[str, ...]:
    warnings = []
    for place, rule, value in broken_rules(contract, sent, names):
        if rule.refused:
            where = place + rule.field
            raise DecisionError(refusal(contract, where, value, rule.text, rule.mark))
        warnings.append(place + rule.warning)
    return tuple(warnings)


class DecisionState(msgspec.Struct, gc=False):
    """What the core keeps with a decision; the garbage collector does not visit it either."""

    kind: type[Decision]
    checked: Checked
    reason: str | None
    warnings: tuple[str, ...]
    extras: Extras
    added: tuple[str, ...] = ()
    """Warnings that no check made: they stay unless their field is replaced."""
    replaced: tuple[tuple[object, ...], Any] | None = None
    """The last result of ``replace``, and its arguments."""
    follows: tuple[object, ...] = ()
    """The results that it was compared with as an adjusted decision, and which it does not open."""
    changes: tuple[object, object, str | None, Any] | None = None
    """The ``Redaction``, result and reason of the decision before, and the changes as written."""


class Decision(Model):
    """The answer of a plugin. ``reason`` is audited and shown in Pexip's support log.

    Only the fields that were set are sent. A reason of more than 250 characters is shortened:
    Infinity does not read it, and no decision must be lost to a long explanation.
    """

    __slots__ = ("_state", "reason")

    action: ClassVar[Action] = "continue"

    if TYPE_CHECKING:
        reason: str | None = None
        _state: ClassVar[DecisionState]

    def __init__(self, /, **fields: Any) -> None:
        reason = fields.pop("reason", None)
        self._check(fields)
        self._seal(reason)

    @classmethod
    def from_result(
        cls,
        fields: Mapping[str, Any],
        *,
        reason: str | None = None,
        extras: Extras = NO_EXTRAS,
        strict: bool = False,
    ) -> Self:
        """Return the decision of a plain dictionary."""
        decision = super().from_result(fields, extras=extras, strict=strict)
        decision._seal(reason, extras)  # noqa: SLF001 - its own
        return decision

    def replace(self, /, **fields: Any) -> Self:
        """Return the same with other fields, or another ``reason``; ``UNSET`` removes one.

        The fields that stay keep their order. The result is checked as a new decision is: raises
        ``DecisionError``::

            decision.replace(ivr_theme_name="Oslo", description=UNSET)
        """
        values = fields.values()
        # Types first: values of other types are not compared, as 1 equals True.
        key = (*map(type, values), *fields, *values)
        state = self._state
        known = state.replaced
        if known is not None and known[0] == key:
            # Most decisions are made once, and replaced in the same way in many calls.
            same: Self = known[1]
            if is_intact(same):
                return same
        made = self._replace(fields)
        if _CONSTANTS.issuperset(map(type, values)):
            state.replaced = (key, made)
        return made

    def _replace(self, fields: dict[str, Any]) -> Self:
        replaced, extras = self.set_fields(), self._state.extras
        reason = self.reason
        for name, value in fields.items():
            if name == "reason":
                reason = None if value is UNSET else value
            elif name == "action":
                raise TypeError("a decision keeps its action: return Reject(), or another decision")
            elif name not in self._contract.names.union(replaced, extras.fields):
                raise DecisionError(unknown_field(self._contract, name))
            elif value is UNSET:
                replaced.pop(name, None)
            else:
                replaced[name] = value
        made = self.from_result(replaced, reason=reason, extras=extras)
        added = [w for w in self._state.added if re.split(r"[.\[:]", w)[0] not in fields]
        return made.with_warnings(*added) if added else made

    def facts(self) -> dict[str, Any]:
        """Return all that can be changed: the fields that were set, ``action`` and ``reason``."""
        found: dict[str, Any] = {"action": self.action, **self.set_fields()}
        if self.reason is not None:
            found["reason"] = self.reason
        return found

    def with_reason(self, reason: str) -> Self:
        """Return the same with another reason; the checked result is shared."""
        return self._copied(reason)

    def with_warnings(self, *warnings: str) -> Self:
        """Return the same with further warnings."""
        return self._copied(self.reason, *warnings)

    def _copied(self, reason: str | None, *added: str) -> Self:
        copied = type(self).__new__(type(self))
        assign(copied, "_checked", self._state.checked)
        assign(copied, "result", self.result)
        assign(copied, "warnings", (*self.warnings, *added))
        copied._seal(reason, self._state.extras, (*self._state.added, *added))  # noqa: SLF001 - its own
        return copied

    def _seal(
        self, reason: object, extras: Extras = NO_EXTRAS, added: tuple[str, ...] = ()
    ) -> None:
        text = None if reason is None else _shortened(reason)
        assign(self, "reason", text)
        state = DecisionState(type(self), self._checked, text, self.warnings, extras, added)
        assign(self, "_state", state)


def state_of(decision: Decision) -> DecisionState:
    """Return what the core keeps with a decision."""
    return decision._state  # noqa: SLF001 - kept out of the attributes that authors see


def is_intact(decision: Decision) -> bool:
    """Return whether nothing was changed after the decision was checked.

    The classes are frozen; ``object.__setattr__`` bypasses that.
    """
    state = state_of(decision)
    return (
        decision.result is state.checked.result
        and decision.reason is state.reason
        and decision.warnings is state.warnings
        and type(decision) is state.kind
    )


class Continue(Decision):
    """Ask no further plugin; Infinity continues with its own database and settings."""


class Reject(Decision, forbid_unknown=True):
    """Refuse the call, the participant or the registration.

    ``reject_reason`` is shown to the participant, for participant properties only. A reject never
    carries a usable result: Infinity would use the result and admit the call.
    """

    action = "reject"

    reject_reason: OptionalText = UNSET
    """Shown to a refused participant."""


# fmt: off
_REDIRECT_RULES = (
    Rule("new_alias", "must begin with a scheme such as sip:", Confidence.TRANSCRIBED,
         lambda s: _SCHEME.match(s.new_alias) is None),
    Rule("new_alias", "must hold neither blanks nor control characters: a SIP 302 contains it",
         Confidence.TRANSCRIBED, lambda s: _BROKEN_LINE.search(s.new_alias) is not None),
    Rule("new_alias", "no call reaches schemes other than sip, sips, h323 and tel",
         Confidence.REPORTED, lambda s: s.new_alias.partition(":")[0].lower() not in SCHEMES),
    Rule("new_alias", "an address has one @ at most, with a user before it",
         Confidence.REPORTED, lambda s: not _ADDRESS.fullmatch(s.new_alias.partition(":")[2])),
    Rule("new_alias", 'the characters <, > and " end an address in the Contact of a SIP 302',
         Confidence.REPORTED, lambda s: not {"<", ">", '"'}.isdisjoint(s.new_alias)),
)
# fmt: on


class Redirect(
    Decision, forbid_unknown=True, fields={"new_alias": PERSONAL}, rules=_REDIRECT_RULES
):
    """Redirect a SIP caller, by a 302 to ``new_alias``: a full alias with its scheme."""

    action = "redirect"

    new_alias: Text
    """Target alias with its scheme, such as sip:sales@example.com."""


def _shortened(reason: object) -> str:
    """Return a reason of any type as text that can be written."""
    try:
        text = str(reason)[: MAX_TEXT + 1].encode("utf-8", "replace").decode()
    except Exception:  # noqa: BLE001 - no decision is lost to its reason
        return "(unreadable)"
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
