"""Services: what all kinds have, rooms, and test calls."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta

from pexpolicy.endpoints import service_fields, service_rules
from pexpolicy.endpoints.field_types import (
    BitsPerSecond,
    CallType,
    Count,
    Crypto,
    DirectMedia,
    Email,
    Name,
    NonIdpParticipants,
    Pin,
    Pixels,
    Uuid,
    YesNo,
)
from pexpolicy.models.contract import Contract, contract_of
from pexpolicy.models.decision import Decision, Text
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.extras import NO_EXTRAS, Extras
from pexpolicy.models.model import Model, Unset, assign
from pexpolicy.models.validation import refusal
from pexpolicy.text import brief


class AutomaticParticipant(
    Model, fields=service_fields.AUTOMATIC_PARTICIPANT, rules=service_rules.AUTOMATIC_PARTICIPANT
):
    """A participant that a conference calls when it starts."""

    __slots__ = ()

    local_alias: Text
    """Alias to call from."""
    remote_alias: Text
    """Alias to call."""
    protocol: Literal["h323", "sip", "mssip", "rtmp", "teams", "gms"]
    """Protocol of the call."""
    role: Literal["chair", "guest"]
    """Role of the participant."""
    call_type: CallType | Unset = UNSET
    """Media of the call. Default: video."""
    keep_conference_alive: (
        Literal[
            "keep_conference_alive",
            "keep_conference_alive_if_multiple",
            "keep_conference_alive_never",
        ]
        | Unset
    ) = UNSET
    """Whether this participant keeps the conference alive. Default:
    keep_conference_alive_if_multiple.
    """
    routing: Literal["manual", "routing_rule"] | Unset = UNSET
    """How the call is routed. Default: manual."""
    streaming: bool | Unset = UNSET
    """The participant is a stream. Default: false."""
    dtmf_sequence: Text | Unset = UNSET
    """Tones sent when the call is answered."""
    local_display_name: Text | Unset = UNSET
    """Name shown to the participant."""
    remote_display_name: Text | Unset = UNSET
    """Name of the participant."""
    description: Text | Unset = UNSET
    """Text."""
    presentation_url: Text | Unset = UNSET
    """RTMP address for the presentation."""
    system_location_name: Name | Unset = UNSET
    """Name of the system location that places the call."""


def _find_hint(contract: Contract, name: str) -> str:
    """Return the kinds of service that have a field which this kind lacks."""
    if name == "host_pin" and "pin" in contract.names:
        return "did you mean 'pin'?"
    kinds = map(contract_of, (*Room.__subclasses__(), *Service.__subclasses__()))
    owners = [kind.name for kind in kinds if kind.constants and name in kind.names]
    return f"it is a field of {' and '.join(owners)}" if owners else ""


class Service(Decision, fields=service_fields.SERVICE, find_hint=_find_hint):
    """The fields that all six kinds of service have."""

    __slots__ = ()

    name: Name
    """Unique name of the service; of a breakout: the name of its main room; of a gateway: unique
    per call.
    """
    service_tag: Text
    """Text for tracking; returned in later requests; may be empty."""
    description: Text | Unset = UNSET
    """Text."""
    ivr_theme_name: Name | Unset = UNSET
    """Name of a theme in Infinity."""
    max_pixels_per_second: Pixels | Unset | None = UNSET
    """Highest resolution; null is the global setting. Default: null."""
    max_callrate_in: BitsPerSecond | Unset = UNSET
    """Highest rate from a participant; the management API has the same in kbit/s."""


class Room(Service):
    """The fields that conferences and lectures have: virtual meeting rooms and auditoriums."""

    __slots__ = ()

    allow_guests: bool | Unset = UNSET
    """Guests may join. Default: false."""
    pin: Pin | Unset = UNSET
    """Host PIN."""
    guest_pin: Pin | Unset = UNSET
    """Guest PIN."""
    host_identity_provider_group: Text | Unset = UNSET
    """Identity providers for hosts; empty means no single sign-on."""
    guest_identity_provider_group: Text | Unset = UNSET
    """Identity providers for guests; empty means no single sign-on."""
    non_idp_participants: NonIdpParticipants | Unset = UNSET
    """Treatment of callers who cannot sign on. Default: disallow_all."""
    automatic_participants: list[AutomaticParticipant] | Unset = UNSET
    """Participants that the conference calls when it starts. Default: none."""
    breakout_rooms: bool | Unset = UNSET
    """The room may have breakout rooms. Default: false."""
    bypass_proxy: bool | Unset = UNSET
    """Media go straight to the transcoding node. Default: false."""
    call_type: CallType | Unset = UNSET
    """Media of the call. Default: video."""
    crypto_mode: Crypto | Unset | None = UNSET
    """Encryption; null is the global setting. Default: null."""
    denoise_enabled: bool | Unset = UNSET
    """Noise is removed. Default: false."""
    softmute_enabled: bool | Unset = UNSET
    """Soft mute. Default: false."""
    direct_media: DirectMedia | Unset = UNSET
    """Media directly between two participants. Default: never."""
    direct_media_notification_duration: Annotated[int, Meta(ge=0, le=30)] | Unset = UNSET
    """Seconds of notice before direct media. Default: 0."""
    enable_active_speaker_indication: bool | Unset = UNSET
    """The active speaker is shown. Default: false."""
    enable_overlay_text: bool | Unset = UNSET
    """Names are shown. Default: false."""
    enable_chat: YesNo | Unset = UNSET
    """Chat. Default: default."""
    guests_can_present: bool | Unset = UNSET
    """Guests may present. Default: true."""
    live_captions_enabled: YesNo | Unset = UNSET
    """Live captions. Default: default."""
    live_captions_language: Text | Unset = UNSET
    """Language of the captions."""
    source_language: Text | Unset = UNSET
    """Language that is spoken."""
    local_display_name: Text | Unset = UNSET
    """Name shown to the other side."""
    locked: bool | Unset = UNSET
    """Locked; read only when the conference starts. Default: false."""
    max_callrate_out: BitsPerSecond | Unset = UNSET
    """Highest rate to a participant; the management API has the same in kbit/s."""
    mute_all_guests: bool | Unset = UNSET
    """Guests join muted. Default: false."""
    participant_limit: Annotated[int, Meta(ge=0, le=1_000_000)] | Unset = UNSET
    """Maximum number of participants."""
    pinning_config: Text | Unset = UNSET
    """Name of a pinning configuration of the theme."""
    prefer_ipv6: YesNo | Unset = UNSET
    """IPv6 for outgoing media. Default: default."""
    primary_owner_email_address: Email | Unset = UNSET
    """Mail address of the owner."""
    breakout: bool | Unset = UNSET
    """This is a breakout room."""
    breakout_uuid: Uuid | Unset = UNSET
    """UUID of the breakout room."""
    breakout_name: Text | Unset = UNSET
    """Name of the breakout room, shown to participants."""
    breakout_description: Text | Unset = UNSET
    """Text about the breakout room."""
    breakout_guests_allowed_to_leave: bool | Unset = UNSET
    """Guests may leave the breakout room. Default: false."""
    end_action: Literal["transfer", "disconnect"] | Unset = UNSET
    """Action at the end of the breakout. Default: transfer."""
    end_time: Count | Unset = UNSET
    """End of the breakout in seconds since 1970, 0 is open. Default: 0."""
    breakout_uuids: list[Uuid] | Unset = UNSET
    """Main room only: its breakout rooms; a Host joins each as control-only."""


class Conference(Room, constants={"service_type": "conference"}, rules=service_rules.CONFERENCE):
    """A virtual meeting room."""

    __slots__ = ()

    service_type: Literal["conference"] = "conference"
    """Kind of service."""
    view: Text | Unset = UNSET
    """Layout. Default: one_main_seven_pips."""


class Lecture(Room, constants={"service_type": "lecture"}, rules=service_rules.LECTURE):
    """A virtual auditorium: hosts speak, guests listen."""

    __slots__ = ()

    service_type: Literal["lecture"] = "lecture"
    """Kind of service."""
    force_presenter_into_main: bool | Unset = UNSET
    """A presenter is shown in the main view. Default: false."""
    guest_view: Text | Unset = UNSET
    """Layout for guests. Default: one_main_seven_pips."""
    host_view: Text | Unset = UNSET
    """Layout for hosts. Default: one_main_seven_pips."""
    guests_can_see_guests: Literal["no_hosts", "always", "never"] | Unset = UNSET
    """Guests see other guests. Default: no_hosts."""


class TestCall(Service, constants={"service_type": "test_call"}, rules=service_rules.NAMES):
    """A call that returns the caller's own picture and sound."""

    __slots__ = ()

    __test__: ClassVar[bool] = False

    service_type: Literal["test_call"] = "test_call"
    """Kind of service."""
    bypass_proxy: bool | Unset = UNSET
    """Media go straight to the transcoding node. Default: false."""
    call_type: CallType | Unset = UNSET
    """Media of the call. Default: video."""
    crypto_mode: Crypto | Unset | None = UNSET
    """Encryption; null is the global setting. Default: null."""
    local_display_name: Text | Unset = UNSET
    """Name shown to the other side."""


class OtherService(Service):
    """A kind of service that this release does not know, and the operator lists."""

    __slots__ = ()

    service_type: Name
    """Kind of service."""

    def _check(
        self, fields: dict[str, Any], extras: Extras = NO_EXTRAS, *, known_only: bool = True
    ) -> None:
        kind = fields.get("service_type")
        if not extras.has("service_type", kind):
            text = "is not a service type; list it below [infinity.extra_values] to send it"
            raise DecisionError(refusal(self._contract, "service_type", kind, text))
        super()._check(fields, extras, known_only=known_only)
        text = f"service_type: {brief(kind)} is sent as [infinity] extra_values lists it [reported]"
        assign(self, "warnings", (*self.warnings, text))
