"""The six kinds of service that an alias can lead to, with every field of their results."""

from __future__ import annotations


from typing import Annotated, Any, ClassVar, Literal, Self

from msgspec import UNSET, Meta

from pexpolicy.checked import Checked, Unset, assign
from pexpolicy.decisions import Decision, Text
from pexpolicy.endpoints import service_fields, service_rules

Pin = Annotated[str, Meta(max_length=20, pattern=r"^([0-9]{3,19}#|[0-9]{4,20})?$(?!\n)")]
BitsPerSecond = Annotated[int, Meta(ge=128_000, le=8_192_000)]
Email = Annotated[str, Meta(max_length=100)]
Name = Annotated[str, Meta(min_length=1, max_length=250)]
Uuid = Annotated[
    str, Meta(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$(?!\n)")
]
Count = Annotated[int, Meta(ge=0)]
YesNo = Literal["default", "yes", "no"]
CallType = Literal["video", "video-only", "audio"]
Crypto = Literal["besteffort", "on", "off"]
DirectMedia = Literal["never", "best_effort", "always"]
NonIdpParticipants = Literal["disallow_all", "allow_if_trusted"]
Pixels = Literal["sd", "hd", "fullhd"]


class AutomaticParticipant(Checked):
    """Somebody whom a conference calls when it starts."""

    fields = service_fields.AUTOMATIC_PARTICIPANT

    local_alias: Text
    remote_alias: Text
    protocol: Literal["h323", "sip", "mssip", "rtmp"]
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
    """What all six kinds of service have in common."""

    fields = service_fields.SERVICE
    rules = service_rules.SERVICE
    consequence = "Infinity would drop the whole result and use its own database"

    name: Name
    service_tag: Text
    description: Text | Unset = UNSET
    ivr_theme_name: Name | Unset = UNSET
    max_pixels_per_second: Pixels | None | Unset = UNSET
    max_callrate_in: BitsPerSecond | Unset = UNSET

    def for_running_service(self, service_name: str | None) -> Self:
        """The same, with a warning where it is another service than the one that dials out (rule 13)."""
        if service_name is None or service_name == self.name:
            return self
        noted = type(self).from_result(self.set_fields(), reason=self.reason)
        text = (
            "name: the running service that dials out has another name, and the answer must match it; "
            "only prefer_ipv6 has an effect [DOCUMENTED* oda]"
        )
        assign(noted, "warnings", (*self.warnings, text))
        return noted


class Room(Service):
    """What conferences and lectures have in common: virtual meeting rooms and auditoriums."""

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
    crypto_mode: Crypto | None | Unset = UNSET
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
    participant_limit: Annotated[int, Meta(ge=0, le=1_000_000)] | None | Unset = UNSET
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

    fixed = {"service_type": "conference"}
    rules = (*Room.rules, *service_rules.ROOM, *service_rules.layouts("view"))

    service_type: Literal["conference"] = "conference"
    view: Text | Unset = UNSET


class Lecture(Room):
    """A virtual auditorium: hosts speak, guests listen."""

    fixed = {"service_type": "lecture"}
    rules = (
        *Room.rules,
        *service_rules.ROOM,
        *service_rules.layouts("host_view"),
        *service_rules.layouts("guest_view"),
        *service_rules.LECTURE,
    )

    service_type: Literal["lecture"] = "lecture"
    force_presenter_into_main: bool | Unset = UNSET
    guest_view: Text | Unset = UNSET
    host_view: Text | Unset = UNSET
    guests_can_see_guests: Literal["no_hosts", "always", "never"] | Unset = UNSET


class Gateway(Service):
    """A call that Infinity places on behalf of the caller: to a device, Teams, Meet or another system."""

    fixed = {"service_type": "gateway"}
    rules = (*Service.rules, *service_rules.GATEWAY, *service_rules.layouts("view"))

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
    crypto_mode: Crypto | None | Unset = UNSET
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

    fixed = {"service_type": "two_stage_dialing"}

    service_type: Literal["two_stage_dialing"] = "two_stage_dialing"
    bypass_proxy: bool | Unset = UNSET
    call_type: CallType | Unset = UNSET
    crypto_mode: Crypto | None | Unset = UNSET
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

    fixed = {"service_type": "media_playback"}
    rules = (*Service.rules, *service_rules.PINS, *service_rules.MEDIA_PLAYBACK)

    service_type: Literal["media_playback"] = "media_playback"
    media_playlist_name: Name
    on_completion: dict[str, Any] | str | Unset = UNSET
    allow_guests: bool | Unset = UNSET
    pin: Pin | Unset = UNSET
    guest_pin: Pin | Unset = UNSET
    host_identity_provider_group: Text | Unset = UNSET
    guest_identity_provider_group: Text | Unset = UNSET
    non_idp_participants: NonIdpParticipants | Unset = UNSET
    max_callrate_out: BitsPerSecond | Unset = UNSET


class TestCall(Service):
    """A call that returns the caller's own picture and sound."""

    __test__: ClassVar[bool] = False
    fixed = {"service_type": "test_call"}

    service_type: Literal["test_call"] = "test_call"
    bypass_proxy: bool | Unset = UNSET
    call_type: CallType | Unset = UNSET
    crypto_mode: Crypto | None | Unset = UNSET
    local_display_name: Text | Unset = UNSET


