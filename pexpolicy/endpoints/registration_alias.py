"""Registration alias: the registration of a device, and its credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, cast

from pexpolicy.endpoints.base import Endpoint
from pexpolicy.endpoints.shared_parameters import AliasRequest
from pexpolicy.models.contract import NO_EXTRAS, Extras
from pexpolicy.models.decision import Continue, Decision, Reject, Text
from pexpolicy.models.request import Parameter, text, word
from pexpolicy.models.rules import PERSONAL, SECRET, Confidence, Privacy, Rule


class RegistrationAliasRequest(AliasRequest):
    """May a device register as ``alias``, and with which credentials?"""

    since = "v13"

    protocol = Parameter(word, values=("webrtc", "sip", "h323"))
    """Protocol of the device."""
    auth_type = Parameter(word, values=("credentials", "sso"))
    """How the device authenticates; surrounding quotes are removed."""
    remote_address = Parameter(text, privacy=Privacy.PERSONAL)
    """Address of the device."""


# fmt: off
_CREDENTIALS_RULES = (
    Rule("username", "one of user name and password is empty", Confidence.REPORTED,
         lambda s: bool(s.username) != bool(s.password)),
    Rule("username",
         "user name and password are both empty: any device could register; if that is "
         "intended, answer Credentials.without_authentication()",
         Confidence.TRANSCRIBED, lambda s: not s.username and not s.password),
)
# fmt: on


class Credentials(
    Decision,
    consequence="Infinity would drop the result and let its own database decide",
    fields={"username": PERSONAL, "password": SECRET},
    rules=_CREDENTIALS_RULES,
):
    """The user name and password that the device must present; the password is sent in clear text.

    With both empty, any device could register, so that needs an explicit call of
    ``Credentials.without_authentication()``.
    """

    username: Text
    """User name of the device."""
    password: Text
    """Password of the device."""

    @classmethod
    def without_authentication(cls, *, reason: str | None = None) -> Self:
        """Return a decision to register without authentication; Pexip advises against it."""
        return cast("Self", _NoAuthentication.from_result({}, reason=reason))


class _NoAuthentication(Credentials, rules=()):
    """Registration without authentication."""

    username: Text = ""
    password: Text = ""


class _RegistrationAlias(Endpoint[RegistrationAliasRequest]):
    def from_result(self, result: Mapping[str, Any], extras: Extras = NO_EXTRAS) -> Decision:
        """Return credentials; with an empty ``result`` Infinity itself decides (transcribed)."""
        return super().from_result(result, extras) if result else Continue()

    def check_answer(self, answer: object, request: RegistrationAliasRequest) -> Decision:
        """Check the answer; single sign-on accepts no credentials (transcribed)."""
        decision = self.to_decision(answer)
        if request.auth_type == "sso" and isinstance(decision, Credentials):
            raise self.refuse(
                "the device uses single sign-on, which accepts only an empty result: continue, or "
                "reject",
                mark=Confidence.TRANSCRIBED,
            )
        return decision

    def envelope(self, decision: Decision) -> dict[str, Any]:
        """Return an envelope with a ``result``, required even when empty (transcribed)."""
        envelope = super().envelope(decision)
        envelope.setdefault("result", {})
        return envelope


ENDPOINT = _RegistrationAlias(
    name="registration_alias",
    path="/policy/v1/registrations/",
    request=RegistrationAliasRequest,
    decisions=(Credentials, _NoAuthentication, Continue, Reject),
)
