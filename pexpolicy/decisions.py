"""What every endpoint shares: the decision of a plugin, and the envelope in which it leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from msgspec import UNSET, Meta

from pexpolicy.checked import MAX_TEXT, Checked, Field, Mark, Rule, Unset, assign

Text = Annotated[str, Meta(max_length=MAX_TEXT)]
"""Text of at most 250 characters, which is what Infinity takes (DOCUMENTED*)."""
Action = Literal["continue", "reject", "redirect"]


class Decision(Checked):
    """The answer of a plugin. ``reason`` says why; it is audited and shown in Pexip's support log.

    Only the fields that were set are sent. A reason of more than 250 characters is shortened: it is ours
    and not Infinity's, and no decision is to be lost to a long explanation.
    """

    __slots__ = ("reason",)

    action: ClassVar[Action] = "continue"
    sends_result: ClassVar[bool] = True

    if TYPE_CHECKING:
        reason: str | None = None

    def __init__(self, *, reason: str | None = None, **fields: Any) -> None:
        self._check(fields, strict=True)
        assign(self, "reason", reason and _shortened(reason))

    @classmethod
    def from_result(cls, fields: Any, *, reason: str | None = None) -> Self:
        """The decision that a plain dictionary stands for."""
        decision = super().from_result(fields)
        assign(decision, "reason", reason and _shortened(reason))
        return decision


class Continue(Decision):
    """Ask no further plugin; Infinity goes on by itself, with its own database and settings."""

    sends_result = False


class Reject(Decision):
    """Refuse the call, the participant or the registration.

    ``reject_reason`` is shown to the participant, by the requests about participant properties only.
    A reject never carries a usable result: Infinity would take the result and admit the call.
    """

    action = "reject"
    fields = {
        "reject_reason": Field("shown to a refused participant", Mark.DOCUMENTED_STAR, "oda, twofin")
    }

    reject_reason: Text | Unset = UNSET


class Redirect(Decision):
    """Send the caller elsewhere: a SIP caller gets a 302 to ``new_alias``, a full alias with its scheme."""

    action = "redirect"
    fields = {"new_alias": Field("alias to go to, with its scheme", Mark.DOCUMENTED_STAR, "oda")}
    rules = (
        Rule(
            "new_alias",
            "the alias has no scheme such as sip:",
            Mark.DOCUMENTED_STAR,
            "oda",
            lambda fields: ":" not in fields["new_alias"],
        ),
    )

    new_alias: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]


def _shortened(reason: object) -> str:
    text = str(reason).encode("utf-8", "replace").decode()
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
