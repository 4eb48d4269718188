"""The words in which Pexip's contract is written down: how sure a statement is, fields, rules."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET

from pexpolicy.text import did_you_mean


class Confidence(enum.StrEnum):
    """How sure a statement of the contract is."""

    DOCUMENTED = "documented"
    """Read in Pexip's own text."""
    TRANSCRIBED = "transcribed"
    """Copied from Pexip's text by integrators."""
    OBSERVED = "observed"
    """Seen in the traffic of a Conferencing Node."""
    REPORTED = "reported"
    """Said by integrators only."""
    DISPUTED = "disputed"
    """The sources disagree."""

    @property
    def binding(self) -> bool:
        """True where a breach is refused; a breach of any other rule is sent, with a warning."""
        return self in (Confidence.DOCUMENTED, Confidence.TRANSCRIBED)


class Privacy(enum.StrEnum):
    """What may be written down of a value. Whatever is not typed counts as secret."""

    PLAIN = "plain"
    """Says nothing of a person."""
    PERSONAL = "personal"
    """Names a person or leads to one; ``[audit] personal`` says what becomes of it."""
    SECRET = "secret"  # noqa: S105 - a kind of value, not one
    """Opens something: PINs, passwords, passcodes, dial tones. Never stored and never shown."""


# The short names of sources, which are for those who change this contract:
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
    """What the contract says of one field, in words; its type stands on the class."""

    doc: str
    mark: Confidence = Confidence.TRANSCRIBED
    source: str = "oda"
    default: str = ""
    """What Infinity assumes when the field is not sent."""
    privacy: Privacy = Privacy.PLAIN
    slips: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Values that are often written by mistake, and what to say of them."""

    @property
    def secret(self) -> bool:
        """True for what must never be stored or shown."""
        return self.privacy is Privacy.SECRET


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule between fields: looked at where ``field`` was set, broken where ``broken`` says so.

    ``broken`` is given the fields as they are sent, as attributes; one that was not set is
    ``UNSET``, which is false.
    """

    field: str
    text: str
    mark: Confidence
    source: str
    broken: Callable[[Any], object]
    row: int = 0
    """The number of the rule in the table of cross-field rules, 0 for a rule of one field alone."""
    advice: bool = False
    """True where Infinity takes the answer all the same: the breach is a warning, whatever the
    mark.
    """
    known: frozenset[str] = frozenset()
    """The values that do not break the rule, where they can be listed."""
    said: str = dataclasses.field(init=False, repr=False)
    """The rule as a warning on a decision."""
    refused: bool = dataclasses.field(init=False, repr=False)
    """True where a decision that breaks the rule cannot be built."""

    def __post_init__(self) -> None:
        said = f"{self.field}: {self.text} [{self.mark}]"
        object.__setattr__(self, "said", said)
        object.__setattr__(self, "refused", self.mark.binding and not self.advice)

    def warning(self, value: object) -> str:
        """The same, with the value that was probably meant instead of this one."""
        guess = did_you_mean(value, self.known) if self.known and isinstance(value, str) else ""
        return self.said.replace(" [", f"{guess} [", 1) if guess else self.said


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules that are looked at one by one only where ``sound`` does not clear them all.

    ``sound`` is a quick look that decisions without anything unusual pass. It may say no to fields
    that break no rule, and never yes to fields that break one.
    """

    rules: tuple[Rule, ...]
    sound: Callable[[Any], object]


def each(*rules: Rule) -> tuple[RuleGroup, ...]:
    """Rules that are looked at one by one, each where its field was set."""
    return tuple(RuleGroup((rule,), _kept(rule)) for rule in rules)


def _kept(rule: Rule) -> Callable[[Any], object]:
    name, broken = rule.field, rule.broken
    return lambda sent: getattr(sent, name) is UNSET or not broken(sent)
