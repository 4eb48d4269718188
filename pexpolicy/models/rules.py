"""The vocabulary of Pexip's contract: confidence, privacy, fields and rules."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


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


# Sources that are named in comments:
#   v11: Pexip's documentation of that version
#   pexip-tf: Pexip's Terraform provider: the same objects in the management API
#   oda: an integrator's transcription of Pexip's page for v35 to v38; the source of all else
#   oda-local: the same author's local policies
#   ps, dbg: notes of integrators about policy servers and about debugging them
#   lorist: policy servers of an integrator, 2016 and later
#   twofin: a policy server in live use, with a log of December 2023
#   mividas: a conference system that answers policy requests


@dataclass(frozen=True, slots=True)
class Field:
    """What distinguishes a field; its type and its description are on the class."""

    mark: Confidence = Confidence.TRANSCRIBED
    privacy: Privacy = Privacy.PLAIN


PLAIN, PERSONAL, SECRET = (Field(privacy=privacy) for privacy in Privacy)
"""Fields that only their privacy distinguishes."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule between fields: evaluated where ``field`` is set, by the predicate ``broken``.

    ``broken`` takes the fields as attributes, as they are sent; an unset one is ``UNSET``, which is
    false.
    """

    field: str
    text: str
    mark: Confidence
    broken: Callable[[Any], object]
    advice: bool = False
    """True where Infinity accepts the answer: a breach is a warning, whatever the confidence."""

    @property
    def refused(self) -> bool:
        """True where a decision that breaks the rule cannot be built."""
        return self.mark.binding and not self.advice

    @property
    def warning(self) -> str:
        """The rule as a warning on a decision."""
        return f"{self.field}: {self.text} [{self.mark}]"
