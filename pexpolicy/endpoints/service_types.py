"""The six kinds of service, with every field of their results."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta

from pexpolicy.endpoints import media_playback, service_fields, service_rules
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
from pexpolicy.endpoints.media_playback import OnCompletion
from pexpolicy.models.decision import Decision, Text
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.extras import NO_EXTRAS, Extras
from pexpolicy.models.model import Model, Unset, assign
from pexpolicy.models.validation import refusal
from pexpolicy.text import brief


class AutomaticParticipant(Model):
    """A participant that a conference calls when it starts."""

    __slots__ = ()

    fields = service_fields.AUTOMATIC_PARTICIPANT
    rules = service_rules.AUTOMATIC_PARTICIPANT

    local_alias: Text
    remote_alias: Text
    protocol: Literal["h323", "sip", "mssip", "rtmp", "teams", "gms"]
    role: Literal["chair", "guest"]
    call_type: CallType | Unset = UNSET
    keep_conference_alive: (
        Literal[
            "keep_conference_alive",
            "keep_conference_alive_if_multiple",
            "keep_conference_alive_never",
        ]
        | Unset
    ) = UNSET
    routing: Literal["manual", "routing_rule"] | Unset = UNSET
    streaming: bool | Unset = UNSET
    dtmf_sequence: Text | Unset = UNSET
    local_display_name: Text | Unset = UNSET
    remote_display_name: Text | Unset = UNSET
    description: Text | Unset = UNSET
    presentation_url: Text | Unset = UNSET
    system_location_name: Name | Unset = UNSET


class Service(Decision):
    """The fields that all six kinds of service have."""

    __slots__ = ()

    fields = service_fields.SERVICE

    name: Name
    service_tag: Text
    description: Text | Unset = UNSET
    ivr_theme_name: Name | Unset = UNSET
    max_pixels_per_second: Pixels | Unset | None = UNSET
    max_callrate_in: BitsPerSecond | Unset = UNSET

    @classmethod
    def field_hint(cls, name: str) -> str:
        """Return the kinds of service that have a field which this kind lacks."""
        kinds = (Conference, Lecture, Gateway, VirtualReception, MediaPlayback, TestCall)
        owners = [kind.__name__ for kind in kinds if name in kind.names]
        return f"it is a field of {' and '.join(owners)}" if owners else ""


class Room(Service):
    """The fields that conferences and lectures have: virtual meeting rooms and auditoriums."""

    __slots__ = ()

    allow_guests: bool | Unset = UNSET
    pin: Pin | Unset = UNSET
    guest_pin: Pin | Unset = UNSET
    host_identity_provider_group: Text | Unset = UNSET
    guest_identity_provider_group: Text | Unset = UNSET
    non_idp_participants: NonIdpParticipants | Unset = UNSET
    automatic_participants: list[AutomaticParticipant] | Unset = UNSET
    breakout_rooms: bool | Unset = UNSET
    bypass_proxy: bool | Unset = UNSET
    call_type: CallType | Unset = UNSET
    crypto_mode: Crypto | Unset | None = UNSET
    denoise_enabled: bool | Unset = UNSET
    softmute_enabled: bool | Unset = UNSET
    direct_media: DirectMedia | Unset = UNSET
    direct_media_notification_duration: Annotated[int, Meta(ge=0, le=30)] | Unset = UNSET
    enable_active_speaker_indication: bool | Unset = UNSET
    enable_overlay_text: bool | Unset = UNSET
    enable_chat: YesNo | Unset = UNSET
    guests_can_present: bool | Unset = UNSET
    live_captions_enabled: YesNo | Unset = UNSET
    live_captions_language: Text | Unset = UNSET
    source_language: Text | Unset = UNSET
    local_display_name: Text | Unset = UNSET
    locked: bool | Unset = UNSET
    max_callrate_out: BitsPerSecond | Unset = UNSET
    mute_all_guests: bool | Unset = UNSET
    participant_limit: Annotated[int, Meta(ge=0, le=1_000_000)] | Unset = UNSET
    pinning_config: Text | Unset = UNSET
    prefer_ipv6: YesNo | Unset = UNSET
    primary_owner_email_address: Email | Unset = UNSET
    breakout: bool | Unset = UNSET
    breakout_uuid: Uuid | Unset = UNSET
    breakout_name: Text | Unset = UNSET
    breakout_description: Text | Unset = UNSET
    breakout_guests_allowed_to_leave: bool | Unset = UNSET
    end_action: Literal["transfer", "disconnect"] | Unset = UNSET
    end_time: Count | Unset = UNSET
    breakout_uuids: list[Uuid] | Unset = UNSET


class Conference(Room):
    """A virtual meeting room."""

    __slots__ = ()

    constants = {"service_type": "conference"}
    rules = service_rules.CONFERENCE

    service_type: Literal["conference"] = "conference"
    view: Text | Unset = UNSET


class Lecture(Room):
    """A virtual auditorium: hosts speak, guests listen."""

    __slots__ = ()

    constants = {"service_type": "lecture"}
    rules = service_rules.LECTURE

    service_type: Literal["lecture"] = "lecture"
    force_presenter_into_main: bool | Unset = UNSET
    guest_view: Text | Unset = UNSET
    host_view: Text | Unset = UNSET
    guests_can_see_guests: Literal["no_hosts", "always", "never"] | Unset = UNSET


class Gateway(Service):
    """A call on behalf of the caller: to a device, Teams, Meet or another system."""

    __slots__ = ()

    constants = {"service_type": "gateway"}
    rules = service_rules.GATEWAY

    service_type: Literal["gateway"] = "gateway"
    local_alias: Text
    remote_alias: Text
    outgoing_protocol: Literal["h323", "sip", "mssip", "rtmp", "gms", "teams"]
    bypass_proxy: bool | Unset = UNSET
    call_type: Literal["video", "video-only", "audio", "auto"] | Unset = UNSET
    called_device_type: (
        Literal[
            "external",
            "registration",
            "mssip_conference_id",
            "mssip_server",
            "gms_conference",
            "teams_conference",
            "teams_user",
            "telehealth_profile",
        ]
        | Unset
    ) = UNSET
    crypto_mode: Crypto | Unset | None = UNSET
    denoise_audio: bool | Unset = UNSET
    dtmf_sequence: Text | Unset = UNSET
    enable_active_speaker_indication: bool | Unset = UNSET
    enable_overlay_text: bool | Unset = UNSET
    external_participant_avatar_lookup: YesNo | Unset = UNSET
    h323_gatekeeper_name: Name | Unset = UNSET
    sip_proxy_name: Name | Unset = UNSET
    stun_server_name: Name | Unset = UNSET
    turn_server_name: Name | Unset = UNSET
    outgoing_location_name: Name | Unset = UNSET
    gms_access_token_name: Name | Unset = UNSET
    mssip_proxy_name: Name | Unset = UNSET
    teams_proxy_name: Name | Unset = UNSET
    live_captions_enabled: YesNo | Unset = UNSET
    live_captions_language: Text | Unset = UNSET
    source_language: Text | Unset = UNSET
    local_display_name: Text | Unset = UNSET
    max_callrate_out: BitsPerSecond | Unset = UNSET
    prefer_ipv6: YesNo | Unset = UNSET
    teams_fit_to_frame: Literal["no", "yes"] | Unset = UNSET
    transcoding_enabled: bool | Unset = UNSET
    treat_as_trusted: bool | Unset = UNSET
    view: Text | Unset = UNSET


class VirtualReception(Service):
    """A virtual reception (``two_stage_dialing``): the caller types the number of a conference."""

    __slots__ = ()

    constants = {"service_type": "two_stage_dialing"}
    rules = service_rules.RECEPTION

    service_type: Literal["two_stage_dialing"] = "two_stage_dialing"
    bypass_proxy: bool | Unset = UNSET
    call_type: CallType | Unset = UNSET
    crypto_mode: Crypto | Unset | None = UNSET
    local_display_name: Text | Unset = UNSET
    max_callrate_out: BitsPerSecond | Unset = UNSET
    gms_access_token_name: Name | Unset = UNSET
    mssip_proxy_name: Name | Unset = UNSET
    teams_proxy_name: Name | Unset = UNSET
    match_string: Text | Unset = UNSET
    replace_string: Text | Unset = UNSET
    post_match_string: Text | Unset = UNSET
    post_replace_string: Text | Unset = UNSET
    system_location_name: Name | Unset = UNSET
    two_stage_dial_type: Literal["regular", "mssip", "gms", "teams"] | Unset = UNSET


class MediaPlayback(Service):
    """A playlist that is played to the caller."""

    __slots__ = ()

    constants = {"service_type": "media_playback"}
    rules = (*service_rules.NAMES, *service_rules.PINS, *media_playback.RULES)

    service_type: Literal["media_playback"] = "media_playback"
    media_playlist_name: Name
    on_completion: OnCompletion | Text | Unset = UNSET
    allow_guests: bool | Unset = UNSET
    pin: Pin | Unset = UNSET
    guest_pin: Pin | Unset = UNSET
    host_identity_provider_group: Text | Unset = UNSET
    guest_identity_provider_group: Text | Unset = UNSET
    non_idp_participants: NonIdpParticipants | Unset = UNSET
    max_callrate_out: BitsPerSecond | Unset = UNSET


class TestCall(Service):
    """A call that returns the caller's own picture and sound."""

    __slots__ = ()

    __test__: ClassVar[bool] = False
    constants = {"service_type": "test_call"}
    rules = service_rules.NAMES

    service_type: Literal["test_call"] = "test_call"
    bypass_proxy: bool | Unset = UNSET
    call_type: CallType | Unset = UNSET
    crypto_mode: Crypto | Unset | None = UNSET
    local_display_name: Text | Unset = UNSET


class OtherService(Service):
    """A kind of service that this release does not know, and the operator lists."""

    __slots__ = ()

    service_type: Name

    def _check(
        self, fields: dict[str, Any], extras: Extras = NO_EXTRAS, *, known_only: bool = True
    ) -> None:
        kind = fields.get("service_type")
        if not extras.has("service_type", kind):
            text = "is not a service type; list it below [infinity.extra_values] to send it"
            raise DecisionError(refusal(type(self), "service_type", kind, text))
        super()._check(fields, extras, known_only=known_only)
        text = f"service_type: {brief(kind)} is sent as [infinity] extra_values lists it [reported]"
        assign(self, "warnings", (*self.warnings, text))
