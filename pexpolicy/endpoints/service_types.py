"""Services: their fields, rooms, gateways, virtual receptions, playlists and test calls."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta

from pexpolicy.endpoints import service_rules
from pexpolicy.models.contract import NO_EXTRAS, Extras, contract_of
from pexpolicy.models.decision import (
    Decision,
    Model,
    Name,
    OptionalBool,
    OptionalName,
    OptionalText,
    Text,
    Unset,
)
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.rules import PERSONAL, SECRET, Confidence, Field, Privacy, Rule
from pexpolicy.models.validation import refusal

Pin = Annotated[
    str,
    Meta(
        max_length=20,
        description="a PIN as text, 4 to 20 characters, digits with a # at the end or without",
        extra_json_schema={"pattern": service_rules.PIN_PATTERN},
    ),
]
BitsPerSecond = Annotated[
    int,
    Meta(
        ge=128_000,
        le=8_192_000,
        description="a whole number of bits per second from 128000 to 8192000",
    ),
]
Uuid = Annotated[
    str,
    Meta(
        min_length=36,
        max_length=36,
        description="a UUID such as 3e4e1bd9-7439-4c53-8ca2-6ef1a8e34cfc",
        extra_json_schema={"pattern": service_rules.UUID_PATTERN},
    ),
]
Email = Annotated[str, Meta(max_length=100)]
Count = Annotated[int, Meta(ge=0)]
YesNo = Literal["default", "yes", "no"]
CallType = Literal["video", "video-only", "audio"]
Crypto = Literal["besteffort", "on", "off"]
DirectMedia = Literal["never", "best_effort", "always"]
NonIdpParticipants = Literal["disallow_all", "allow_if_trusted"]
Pixels = Literal["sd", "hd", "fullhd"]

_DOCUMENTED = (
    "non_idp_participants",
    "direct_media_notification_duration",
    "participant_limit",
    "outgoing_protocol",
    "called_device_type",
    "match_string",
    "replace_string",
    "post_match_string",
    "post_replace_string",
)
_PERSONAL = ("local_display_name", "local_alias", "remote_alias")
_SERVICE = {
    **dict.fromkeys(_DOCUMENTED, Field(Confidence.DOCUMENTED)),  # pexip-tf
    **dict.fromkeys(("pin", "guest_pin"), Field(Confidence.DOCUMENTED, Privacy.SECRET)),  # v11
    "primary_owner_email_address": Field(Confidence.DOCUMENTED, Privacy.PERSONAL),  # pexip-tf
    **dict.fromkeys(_PERSONAL, PERSONAL),
    "dtmf_sequence": SECRET,
}
_AUTOMATIC_PARTICIPANT = {
    **dict.fromkeys((*_PERSONAL, "remote_display_name"), PERSONAL),
    **dict.fromkeys(("dtmf_sequence", "presentation_url"), SECRET),
}


class AutomaticParticipant(
    Model, fields=_AUTOMATIC_PARTICIPANT, rules=service_rules.AUTOMATIC_PARTICIPANT
):
    """A participant that a conference calls when it starts."""

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
    streaming: OptionalBool = UNSET
    """The participant is a stream. Default: false."""
    dtmf_sequence: OptionalText = UNSET
    """Tones sent when the call is answered."""
    local_display_name: OptionalText = UNSET
    """Name shown to the participant."""
    remote_display_name: OptionalText = UNSET
    """Name of the participant."""
    description: OptionalText = UNSET
    """Text."""
    presentation_url: OptionalText = UNSET
    """RTMP address for the presentation."""
    system_location_name: OptionalName = UNSET
    """Name of the system location that places the call."""


class Service(Decision, fields=_SERVICE):
    """The fields that all six kinds of service have."""

    name: Name
    """Unique name of the service; of a breakout: the name of its main room; of a gateway: unique
    per call.
    """
    service_tag: Text
    """Text for tracking; returned in later requests; may be empty."""
    description: OptionalText = UNSET
    """Text."""
    ivr_theme_name: OptionalName = UNSET
    """Name of a theme in Infinity."""
    max_pixels_per_second: Pixels | Unset | None = UNSET
    """Highest resolution; null is the global setting. Default: null."""
    max_callrate_in: BitsPerSecond | Unset = UNSET
    """Highest rate from a participant; the management API has the same in kbit/s."""


class _Media(Service):
    """Fields of services with media of their own."""

    bypass_proxy: OptionalBool = UNSET
    """Media go straight to the transcoding node. Default: false."""
    crypto_mode: Crypto | Unset | None = UNSET
    """Encryption; null is the global setting. Default: null."""
    local_display_name: OptionalText = UNSET
    """Name shown to the other side."""


class _Pictured(_Media):
    """Fields of services with a picture of all participants."""

    enable_active_speaker_indication: OptionalBool = UNSET
    """The active speaker is shown. Default: false."""
    enable_overlay_text: OptionalBool = UNSET
    """Names are shown. Default: false."""
    live_captions_enabled: YesNo | Unset = UNSET
    """Live captions. Default: default."""
    live_captions_language: OptionalText = UNSET
    """Language of the captions."""
    source_language: OptionalText = UNSET
    """Language that is spoken."""
    prefer_ipv6: YesNo | Unset = UNSET
    """IPv6 for outgoing media. Default: default."""


class _Protected(Service):
    """Fields of services that ask for a PIN or single sign-on."""

    allow_guests: OptionalBool = UNSET
    """Guests may join. Default: false."""
    pin: Pin | Unset = UNSET
    """Host PIN."""
    guest_pin: Pin | Unset = UNSET
    """Guest PIN."""
    host_identity_provider_group: OptionalText = UNSET
    """Identity providers for hosts; empty means no single sign-on."""
    guest_identity_provider_group: OptionalText = UNSET
    """Identity providers for guests; empty means no single sign-on."""
    non_idp_participants: NonIdpParticipants | Unset = UNSET
    """Treatment of callers who cannot sign on. Default: disallow_all."""
    max_callrate_out: BitsPerSecond | Unset = UNSET
    """Highest rate to a participant; the management API has the same in kbit/s."""


class _Systems(Service):
    """Fields of services that call other systems."""

    gms_access_token_name: OptionalName = UNSET
    """Name of a Google Meet access token in Infinity."""
    mssip_proxy_name: OptionalName = UNSET
    """Name of a Skype for Business server in Infinity."""
    teams_proxy_name: OptionalName = UNSET
    """Name of a Teams Connector in Infinity."""
    max_callrate_out: BitsPerSecond | Unset = UNSET
    """Highest rate to a participant; the management API has the same in kbit/s."""


class Room(_Pictured, _Protected):
    """The fields that conferences and lectures have: virtual meeting rooms and auditoriums."""

    automatic_participants: list[AutomaticParticipant] | Unset = UNSET
    """Participants that the conference calls when it starts. Default: none."""
    breakout_rooms: OptionalBool = UNSET
    """The room may have breakout rooms. Default: false."""
    call_type: CallType | Unset = UNSET
    """Media of the call. Default: video."""
    denoise_enabled: OptionalBool = UNSET
    """Noise is removed. Default: false."""
    softmute_enabled: OptionalBool = UNSET
    """Soft mute. Default: false."""
    direct_media: DirectMedia | Unset = UNSET
    """Media directly between two participants. Default: never."""
    direct_media_notification_duration: Annotated[int, Meta(ge=0, le=30)] | Unset = UNSET
    """Seconds of notice before direct media. Default: 0."""
    enable_chat: YesNo | Unset = UNSET
    """Chat. Default: default."""
    guests_can_present: OptionalBool = UNSET
    """Guests may present. Default: true."""
    locked: OptionalBool = UNSET
    """Locked; read only when the conference starts. Default: false."""
    mute_all_guests: OptionalBool = UNSET
    """Guests join muted. Default: false."""
    participant_limit: Annotated[int, Meta(ge=0, le=1_000_000)] | Unset = UNSET
    """Maximum number of participants."""
    pinning_config: OptionalText = UNSET
    """Name of a pinning configuration of the theme."""
    primary_owner_email_address: Email | Unset = UNSET
    """Mail address of the owner."""
    breakout: OptionalBool = UNSET
    """This is a breakout room."""
    breakout_uuid: Uuid | Unset = UNSET
    """UUID of the breakout room."""
    breakout_name: OptionalText = UNSET
    """Name of the breakout room, shown to participants."""
    breakout_description: OptionalText = UNSET
    """Text about the breakout room."""
    breakout_guests_allowed_to_leave: OptionalBool = UNSET
    """Guests may leave the breakout room. Default: false."""
    end_action: Literal["transfer", "disconnect"] | Unset = UNSET
    """Action at the end of the breakout. Default: transfer."""
    end_time: Count | Unset = UNSET
    """End of the breakout in seconds since 1970, 0 is open. Default: 0."""
    breakout_uuids: list[Uuid] | Unset = UNSET
    """Main room only: its breakout rooms; a Host joins each as control-only."""


class Conference(Room, rules=service_rules.CONFERENCE):
    """A virtual meeting room."""

    service_type: Literal["conference"] = "conference"
    """Kind of service."""
    view: OptionalText = UNSET
    """Layout. Default: one_main_seven_pips."""


class Lecture(Room, rules=service_rules.LECTURE):
    """A virtual auditorium: hosts speak, guests listen."""

    service_type: Literal["lecture"] = "lecture"
    """Kind of service."""
    force_presenter_into_main: OptionalBool = UNSET
    """A presenter is shown in the main view. Default: false."""
    guest_view: OptionalText = UNSET
    """Layout for guests. Default: one_main_seven_pips."""
    host_view: OptionalText = UNSET
    """Layout for hosts. Default: one_main_seven_pips."""
    guests_can_see_guests: Literal["no_hosts", "always", "never"] | Unset = UNSET
    """Guests see other guests. Default: no_hosts."""


class TestCall(_Media, rules=service_rules.NAMES):
    """A call that returns the caller's own picture and sound."""

    __test__: ClassVar[bool] = False

    service_type: Literal["test_call"] = "test_call"
    """Kind of service."""
    call_type: CallType | Unset = UNSET
    """Media of the call. Default: video."""


class OtherService(Service):
    """A kind of service that this release does not know, and the operator lists."""

    service_type: Literal["other"]
    """Kind of service: a word that ``[infinity] extra_values`` lists, instead of this one."""

    def _check(
        self, fields: dict[str, Any], extras: Extras = NO_EXTRAS, *, known_only: bool = True
    ) -> None:
        if not extras.has("service_type", kind := fields.get("service_type")):
            text = "is not a service type; list it below [infinity.extra_values] to send it"
            raise DecisionError(refusal(self._contract, "service_type", kind, text))
        super()._check(fields, extras, known_only=known_only)


class Gateway(_Pictured, _Systems, rules=service_rules.GATEWAY):
    """A call on behalf of the caller: to a device, Teams, Meet or another system."""

    service_type: Literal["gateway"] = "gateway"
    """Kind of service."""
    local_alias: Text
    """Alias to call from, which a return call would reach."""
    remote_alias: Text
    """Alias to call."""
    outgoing_protocol: Literal["h323", "sip", "mssip", "rtmp", "gms", "teams"]
    """Protocol of the outgoing call."""
    call_type: Literal["video", "video-only", "audio", "auto"] | Unset = UNSET
    """Media of the call. Default: video."""
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
    """Kind of device that is called. Default: external."""
    denoise_audio: OptionalBool = UNSET
    """Noise is removed; Google Meet. Default: true."""
    dtmf_sequence: OptionalText = UNSET
    """Tones sent when the call is answered; a comma is a pause of 2 s."""
    external_participant_avatar_lookup: YesNo | Unset = UNSET
    """Avatars from Teams. Default: default."""
    h323_gatekeeper_name: OptionalName = UNSET
    """Name of a gatekeeper in Infinity. Default: DNS."""
    sip_proxy_name: OptionalName = UNSET
    """Name of a SIP proxy in Infinity. Default: DNS."""
    stun_server_name: OptionalName = UNSET
    """Name of a STUN server in Infinity. Default: automatic."""
    turn_server_name: OptionalName = UNSET
    """Name of a TURN server in Infinity. Default: automatic."""
    outgoing_location_name: OptionalName = UNSET
    """Name of the system location that places the call. Default: automatic."""
    teams_fit_to_frame: Literal["no", "yes"] | Unset = UNSET
    """Pictures from Teams fill the frame. Default: no."""
    transcoding_enabled: OptionalBool = UNSET
    """Media are transcoded (preview). Default: true."""
    treat_as_trusted: OptionalBool = UNSET
    """The caller counts as trusted. Default: false."""
    view: OptionalText = UNSET
    """Layout. Default: one_main_seven_pips."""


class VirtualReception(_Media, _Systems, rules=service_rules.RECEPTION):
    """A virtual reception (``two_stage_dialing``): the caller types the number of a conference."""

    service_type: Literal["two_stage_dialing"] = "two_stage_dialing"
    """Kind of service."""
    call_type: CallType | Unset = UNSET
    """Media of the call. Default: video."""
    match_string: OptionalText = UNSET
    """Regular expression for the typed number; blank matches any."""
    replace_string: OptionalText = UNSET
    """Replacement of the match."""
    post_match_string: OptionalText = UNSET
    """Regular expression for the alias found; blank matches any."""
    post_replace_string: OptionalText = UNSET
    """Replacement of that match."""
    system_location_name: OptionalName = UNSET
    """Name of the system location that looks up codes."""
    two_stage_dial_type: Literal["regular", "mssip", "gms", "teams"] | Unset = UNSET
    """Kind of reception. Default: regular."""


# fmt: off
_TRANSFER_RULES = (
    Rule("role",
         "auto and host are known to the management API only; chair and guest are documented",
         Confidence.DISPUTED, lambda s: s.role in ("auto", "host")),  # oda; pexip-tf differs
)
# fmt: on


class Transfer(Model, fields={"role": Field(Confidence.DISPUTED)}, rules=_TRANSFER_RULES):
    """The service that the caller is transferred to after the playlist."""

    conference: Name
    """Alias of the service that the caller is transferred to."""
    role: Literal["chair", "guest", "auto", "host"] | Unset = UNSET
    """Role in which the caller arrives. Default: auto."""


class OnCompletion(Model):
    """The action after a playlist: ``disconnect=True`` or ``transfer=Transfer(...)``."""

    disconnect: OptionalBool = UNSET
    """True ends the call."""
    transfer: Transfer | Unset = UNSET
    """The caller is transferred to another service."""


def is_no_completion(value: Any) -> bool:
    """Return true for anything but one of the two forms, as an object or as JSON text."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value, type=contract_of(OnCompletion).wire)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            return True
    ends, transfers = value.disconnect is not UNSET, value.transfer is not UNSET
    return ends == transfers or (ends and value.disconnect is not True)


# fmt: off
_COMPLETION_RULES = (
    Rule("on_completion",
         'must be either {"disconnect": true} or {"transfer": {"conference": …, "role": …}}',
         Confidence.TRANSCRIBED, lambda s: is_no_completion(s.on_completion)),
    Rule("on_completion",
         "is JSON text, which the management API stores; an object is documented",
         # oda; oda-local, ps and pexip-tf have text
         Confidence.DISPUTED, lambda s: isinstance(s.on_completion, str)),
)
# fmt: on


class MediaPlayback(
    _Protected,
    rules=(*service_rules.NAMES, *service_rules.PINS, *_COMPLETION_RULES),
):
    """A playlist that is played to the caller."""

    service_type: Literal["media_playback"] = "media_playback"
    """Kind of service."""
    media_playlist_name: Name
    """Name of a playlist in Infinity; some scripts send media_playlist with a number instead
    (reported).
    """
    on_completion: OnCompletion | Text | Unset = UNSET
    """Action after the playlist."""
