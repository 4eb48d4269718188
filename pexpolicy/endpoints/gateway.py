"""Services that lead a caller on: gateways and virtual receptions."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET

from pexpolicy.endpoints import service_rules
from pexpolicy.endpoints.field_types import BitsPerSecond, CallType, Crypto, Name, YesNo
from pexpolicy.endpoints.service_types import Service
from pexpolicy.models.decision import Text
from pexpolicy.models.model import Unset


class Gateway(Service, constants={"service_type": "gateway"}, rules=service_rules.GATEWAY):
    """A call on behalf of the caller: to a device, Teams, Meet or another system."""

    __slots__ = ()

    service_type: Literal["gateway"] = "gateway"
    """Kind of service."""
    local_alias: Text
    """Alias to call from, which a return call would reach."""
    remote_alias: Text
    """Alias to call."""
    outgoing_protocol: Literal["h323", "sip", "mssip", "rtmp", "gms", "teams"]
    """Protocol of the outgoing call."""
    bypass_proxy: bool | Unset = UNSET
    """Media go straight to the transcoding node. Default: false."""
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
    crypto_mode: Crypto | Unset | None = UNSET
    """Encryption; null is the global setting. Default: null."""
    denoise_audio: bool | Unset = UNSET
    """Noise is removed; Google Meet. Default: true."""
    dtmf_sequence: Text | Unset = UNSET
    """Tones sent when the call is answered; a comma is a pause of 2 s."""
    enable_active_speaker_indication: bool | Unset = UNSET
    """The active speaker is shown. Default: false."""
    enable_overlay_text: bool | Unset = UNSET
    """Names are shown. Default: false."""
    external_participant_avatar_lookup: YesNo | Unset = UNSET
    """Avatars from Teams. Default: default."""
    h323_gatekeeper_name: Name | Unset = UNSET
    """Name of a gatekeeper in Infinity. Default: DNS."""
    sip_proxy_name: Name | Unset = UNSET
    """Name of a SIP proxy in Infinity. Default: DNS."""
    stun_server_name: Name | Unset = UNSET
    """Name of a STUN server in Infinity. Default: automatic."""
    turn_server_name: Name | Unset = UNSET
    """Name of a TURN server in Infinity. Default: automatic."""
    outgoing_location_name: Name | Unset = UNSET
    """Name of the system location that places the call. Default: automatic."""
    gms_access_token_name: Name | Unset = UNSET
    """Name of a Google Meet access token in Infinity."""
    mssip_proxy_name: Name | Unset = UNSET
    """Name of a Skype for Business server in Infinity."""
    teams_proxy_name: Name | Unset = UNSET
    """Name of a Teams Connector in Infinity."""
    live_captions_enabled: YesNo | Unset = UNSET
    """Live captions. Default: default."""
    live_captions_language: Text | Unset = UNSET
    """Language of the captions."""
    source_language: Text | Unset = UNSET
    """Language that is spoken."""
    local_display_name: Text | Unset = UNSET
    """Name shown to the other side."""
    max_callrate_out: BitsPerSecond | Unset = UNSET
    """Highest rate to a participant; the management API has the same in kbit/s."""
    prefer_ipv6: YesNo | Unset = UNSET
    """IPv6 for outgoing media. Default: default."""
    teams_fit_to_frame: Literal["no", "yes"] | Unset = UNSET
    """Pictures from Teams fill the frame. Default: no."""
    transcoding_enabled: bool | Unset = UNSET
    """Media are transcoded (preview). Default: true."""
    treat_as_trusted: bool | Unset = UNSET
    """The caller counts as trusted. Default: false."""
    view: Text | Unset = UNSET
    """Layout. Default: one_main_seven_pips."""


class VirtualReception(
    Service, constants={"service_type": "two_stage_dialing"}, rules=service_rules.RECEPTION
):
    """A virtual reception (``two_stage_dialing``): the caller types the number of a conference."""

    __slots__ = ()

    service_type: Literal["two_stage_dialing"] = "two_stage_dialing"
    """Kind of service."""
    bypass_proxy: bool | Unset = UNSET
    """Media go straight to the transcoding node. Default: false."""
    call_type: CallType | Unset = UNSET
    """Media of the call. Default: video."""
    crypto_mode: Crypto | Unset | None = UNSET
    """Encryption; null is the global setting. Default: null."""
    local_display_name: Text | Unset = UNSET
    """Name shown to the other side."""
    max_callrate_out: BitsPerSecond | Unset = UNSET
    """Highest rate to a participant; the management API has the same in kbit/s."""
    gms_access_token_name: Name | Unset = UNSET
    """Name of a Google Meet access token in Infinity."""
    mssip_proxy_name: Name | Unset = UNSET
    """Name of a Skype for Business server in Infinity."""
    teams_proxy_name: Name | Unset = UNSET
    """Name of a Teams Connector in Infinity."""
    match_string: Text | Unset = UNSET
    """Regular expression for the typed number; blank matches any."""
    replace_string: Text | Unset = UNSET
    """Replacement of the match."""
    post_match_string: Text | Unset = UNSET
    """Regular expression for the alias found; blank matches any."""
    post_replace_string: Text | Unset = UNSET
    """Replacement of that match."""
    system_location_name: Name | Unset = UNSET
    """Name of the system location that looks up codes."""
    two_stage_dial_type: Literal["regular", "mssip", "gms", "teams"] | Unset = UNSET
    """Kind of reception. Default: regular."""
