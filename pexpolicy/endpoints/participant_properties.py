"""Participant properties: role, name and rights of a participant, after the service."""

from __future__ import annotations

import re
from typing import Any, Literal

from msgspec import UNSET

from pexpolicy.endpoints.base import Endpoint
from pexpolicy.endpoints.shared_parameters import CallRequest, ServiceParameters, TransferParameters
from pexpolicy.models.decision import (
    Continue,
    Decision,
    Model,
    Name,
    OptionalBool,
    OptionalText,
    Reject,
    Text,
    Unset,
)
from pexpolicy.models.request import Parameter, by_prefix, flag, integer, known_role, text, word
from pexpolicy.models.rules import PERSONAL, Confidence, Field, Privacy, Rule

OBSERVED = Confidence.OBSERVED


class ParticipantPropertiesRequest(CallRequest, ServiceParameters, TransferParameters):
    """May this participant join, in which role, and under which name?

    WebRTC: sent after the PIN or single sign-on, so role and attributes are known, and twice: for
    the ``api`` participant and for the ``standard`` one. SIP and H.323: sent before the PIN,
    without a role.
    """

    since = "v32"

    participant_type = Parameter(word, values=("standard", "api", "api_host"))
    """standard; api for a control-only participant; api_host for one that starts the conference
    too, if it is a Host.
    """
    participant_uuid = Parameter(text)
    """Id of the participant."""
    call_uuid = Parameter(text)
    """Id of the call; equal to participant_uuid in every capture."""
    preauthenticated_role = Parameter(known_role, values=("chair", "guest"))
    """Role by PIN or single sign-on. Unset for SIP and H.323, which are sent before the PIN:
    absent, empty, None or null.
    """
    idp_attributes = Parameter(by_prefix, wire="idp_attribute_", privacy=Privacy.PERSONAL)
    """Attributes from the identity provider by name, each with all its values."""
    display_count = Parameter(integer, since="v38")
    """Number of displays."""
    receive_from_audio_mix = Parameter(text)
    """Audio mix that the participant hears, such as main."""
    send_to_audio_mixes_mix_name = Parameter(text)
    """Audio mix that the participant is heard in, such as main."""
    send_to_audio_mixes_prominent = Parameter(flag)
    """True when prominent in that mix."""
    breakout_uuid = Parameter(text, since="v38", mark=OBSERVED)
    """UUID of the breakout room."""
    bypass_lock = Parameter(flag, since="v39", mark=OBSERVED)
    """True when the participant passes a locked conference."""
    can_receive_personal_mix = Parameter(flag, since="v39", mark=OBSERVED)
    """True for personal layouts."""
    disable_overlay_text = Parameter(flag, since="v39", mark=OBSERVED)
    """True without overlay text."""
    layout_group = Parameter(text, since="v39", mark=OBSERVED)
    """Layout group."""
    prefers_multiscreen_mix = Parameter(flag, since="v39", mark=OBSERVED)
    """True for a multiscreen mix."""
    wants_presentation_in_mix = Parameter(flag, since="v39", mark=OBSERVED)
    """True for presentation in the mix."""
    receive_from_video_mix_mix_name = Parameter(
        text, wire="receive_from_video_mix~mix_name", since="v39", mark=OBSERVED
    )
    """Video mix that the participant sees; the name on the wire has a tilde."""
    rx_presentation_policy = Parameter(text, values=("ALLOW", "DENY"), since="v39", mark=OBSERVED)
    """Whether presentation is received."""
    spotlight = Parameter(integer, since="v39", mark=OBSERVED)
    """Spotlight; 0 is none, the lower comes first."""
    third_party_passcode = Parameter(text, since="v38", mark=OBSERVED, privacy=Privacy.SECRET)
    """Passcode from the invitation of a Teams Room."""


_mix = re.compile(r"[^.]+(?:\.[^.]+){0,2}", re.DOTALL).fullmatch

MAX_SPOTLIGHT = 4_102_444_800
"""The year 2100 in seconds since 1970: spotlights that clients set are times."""


_MIX = "one to three levels, with a dot between them and none of them empty"


# fmt: off
_AUDIO_MIX_RULES = (
    Rule("mix_name", f"must have {_MIX}", Confidence.TRANSCRIBED,
         lambda s: _mix(s.mix_name) is None),
)
_PARTICIPANT_PROPERTIES_RULES = (
    Rule("private_custom_properties", "this field is not documented", Confidence.REPORTED,
         lambda _: True),
    Rule("receive_from_audio_mix", f"has {_MIX}", Confidence.REPORTED,
         lambda s: _mix(s.receive_from_audio_mix) is None),
    Rule("display_count", "is negative", Confidence.REPORTED, lambda s: s.display_count < 0),
    Rule("spotlight", "is not a time that a spotlight can have: 0 is none, the lower comes first",
         Confidence.REPORTED, lambda s: not 0 <= s.spotlight < MAX_SPOTLIGHT),
)
# fmt: on


class AudioMix(Model, rules=_AUDIO_MIX_RULES):
    """One audio mix that the participant is heard in."""

    mix_name: Name
    """Name of the mix, dotted for nested mixes, at most 3 levels."""
    prominent: OptionalBool = UNSET
    """True where the participant is louder than the others. Default: false."""


_PARTICIPANT_PROPERTIES_FIELDS = {
    **dict.fromkeys(("call_tag", "remote_alias", "remote_display_name"), PERSONAL),
    "private_custom_properties": Field(OBSERVED, Privacy.SECRET),
}


class ParticipantProperties(
    Decision,
    consequence="Infinity would drop the whole result and change nothing",
    fields=_PARTICIPANT_PROPERTIES_FIELDS,
    rules=_PARTICIPANT_PROPERTIES_RULES,
):
    """Properties that override those of the participant; only the ones that were set."""

    bypass_lock: OptionalBool = UNSET
    """Let the participant pass a locked conference. Default: false."""
    call_tag: OptionalText = UNSET
    """Tag of the call, free text."""
    can_receive_personal_mix: OptionalBool = UNSET
    """Allow personal layouts. Default: false."""
    disable_overlay_text: OptionalBool = UNSET
    """Show no overlay text. Default: false."""
    display_count: int | Unset = UNSET
    """Number of displays."""
    layout_group: OptionalText = UNSET
    """Layout group."""
    preauthenticated_role: Literal["chair", "guest"] | Unset | None = UNSET
    """SIP and H.323: null keeps the PIN prompt, a role acts as if its PIN had been typed."""
    prefers_multiscreen_mix: OptionalBool = UNSET
    """Prefer a multiscreen mix."""
    wants_presentation_in_mix: OptionalBool = UNSET
    """Show presentation in the mix."""
    receive_from_audio_mix: OptionalText = UNSET
    """Audio mix that the participant hears."""
    send_to_audio_mixes: list[AudioMix] | Unset = UNSET
    """Audio mixes that the participant is heard in."""
    remote_alias: OptionalText = UNSET
    """Alias of the participant."""
    remote_display_name: Text | Unset | None = UNSET
    """Name of the participant; null only where it was null."""
    rx_presentation_policy: Literal["ALLOW", "DENY"] | Unset = UNSET
    """Whether presentation is received."""
    spotlight: int | Unset = UNSET
    """Spotlight; the lower comes first, 0 is none."""
    private_custom_properties: dict[str, Any] | Unset = UNSET
    """Custom properties of a scheduling product."""


class _ParticipantProperties(Endpoint[ParticipantPropertiesRequest]):
    def check_answer(self, answer: object, request: ParticipantPropertiesRequest) -> Decision:
        """Check the answer; a name must not be replaced by null (transcribed)."""
        decision = self.to_decision(answer)
        if type(decision) is not ParticipantProperties:
            return decision
        fields = decision.set_fields()
        if "reject_reason" in fields:
            raise self.refuse(
                "reject_reason alone does not reject: answer Reject(reject_reason=...)"
            )
        # The request is read last: a replay notes what is read of it.
        name = "remote_display_name"
        if fields.get(name, "") is None and request.params.get(name):
            raise self.refuse(
                "remote_display_name = null is allowed only where it was null, and this "
                "participant has a name",
                mark=Confidence.TRANSCRIBED,
            )
        return decision


ENDPOINT = _ParticipantProperties(
    name="participant_properties",
    path="/policy/v1/participant/properties",
    request=ParticipantPropertiesRequest,
    decisions=(ParticipantProperties, Continue, Reject),
    can_merge=True,
    shows_reject_reason=True,
)
