"""The vocabulary of Pexip's contract: confidence, privacy, fields and rules."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET

from pexpolicy.text import did_you_mean


class Confidence(enum.StrEnum):
    """The confidence in a statement of the contract."""

    DOCUMENTED = "documented"
    """Read in Pexip's own text."""
    TRANSCRIBED = "transcribed"
    """Copied from Pexip's text by integrators."""
    OBSERVED = "observed"
    """Seen in the traffic of a Conferencing Node."""
    REPORTED = "reported"
    """Reported by integrators only."""
    DISPUTED = "disputed"
    """The sources disagree."""

    @property
    def binding(self) -> bool:
        """True where a breach is refused; a breach of any other rule is sent, with a warning."""
        return self in (Confidence.DOCUMENTED, Confidence.TRANSCRIBED)


class Privacy(enum.StrEnum):
    """The privacy of a value in logs. Values without a type count as secret."""

    PLAIN = "plain"
    """Not about a person."""
    PERSONAL = "personal"
    """Identifies a person; ``[privacy] personal`` decides how it is logged."""
    SECRET = "secret"  # noqa: S105 - a kind of value, not one
    """PINs, passwords, passcodes, dial tones. Never stored and never shown."""


# The short names of sources:
#   docs: Pexip's documentation
#   v11: Pexip's documentation of that version; v12 to v14 likewise
#   pexip-ex: Pexip's example of a policy server
#   pexip-tf: Pexip's Terraform provider: the same objects in the management API
#   oda: an integrator's transcription of Pexip's page for v35 to v38
#   oda-local: the same author's local policies
#   ps, dbg: notes of integrators about policy servers and about debugging them
#   lorist: policy servers of an integrator, 2016 and later
#   twofin: a policy server in live use, with a log of December 2023
#   mividas: a conference system that answers policy requests


@dataclass(frozen=True, slots=True)
class Field:
    """The description of one field; its type is on the class."""

    doc: str
    mark: Confidence = Confidence.TRANSCRIBED
    source: str = "oda"
    default: str = ""
    """The default of Infinity when the field is not sent."""
    privacy: Privacy = Privacy.PLAIN
    slips: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Frequent mistakes, and the hint for each."""

    @property
    def secret(self) -> bool:
        """True for what must never be stored or shown."""
        return self.privacy is Privacy.SECRET


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule between fields: evaluated where ``field`` is set, by the predicate ``broken``.

    ``broken`` takes the fields as attributes, as they are sent; an unset one is ``UNSET``, which is
    false.
    """

    field: str
    text: str
    mark: Confidence
    source: str
    broken: Callable[[Any], object]
    row: int = 0
    """The number in the table of cross-field rules, 0 for a rule of a single field."""
    advice: bool = False
    """True where Infinity accepts the answer: a breach is a warning, whatever the confidence."""
    known: frozenset[str] = frozenset()
    """The values that do not break the rule, where they can be listed."""
    warning_text: str = dataclasses.field(init=False, repr=False)
    """The rule as a warning on a decision."""
    refused: bool = dataclasses.field(init=False, repr=False)
    """True where a decision that breaks the rule cannot be built."""

    def __post_init__(self) -> None:
        text = f"{self.field}: {self.text} [{self.mark}]"
        object.__setattr__(self, "warning_text", text)
        object.__setattr__(self, "refused", self.mark.binding and not self.advice)

    def warning(self, value: object) -> str:
        """Return the warning, with the value that was probably meant."""
        guess = did_you_mean(value, self.known) if self.known and isinstance(value, str) else ""
        text = self.warning_text
        return text.replace(" [", f"{guess} [", 1) if guess else text


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """A group of rules with a quick check; single rules are evaluated only if it fails.

    Usual decisions pass ``quick_check``. It may be false for fields that break no rule, and is
    never true for fields that break one.
    """

    rules: tuple[Rule, ...]
    quick_check: Callable[[Any], object]


def each(*rules: Rule) -> tuple[RuleGroup, ...]:
    """Return a group for each rule, evaluated where its field is set."""
    return tuple(RuleGroup((rule,), _is_kept(rule)) for rule in rules)


def _is_kept(rule: Rule) -> Callable[[Any], object]:
    name, broken = rule.field, rule.broken
    return lambda sent: getattr(sent, name) is UNSET or not broken(sent)
