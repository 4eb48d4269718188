"""Fields of a service: types, descriptions."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from pexpolicy.endpoints import service_rules
from pexpolicy.models.rules import Confidence, Field, Privacy
from pexpolicy.models.validation import BIT_RATE

Pin = Annotated[
    str,
    Meta(
        max_length=20,
        description="a PIN as text, 4 to 20 characters, digits with a # at the end or without",
        extra_json_schema={"pattern": service_rules.PIN_PATTERN},
        extra={"zeros": True},
    ),
]
BitsPerSecond = Annotated[
    int,
    Meta(
        ge=128_000,
        le=8_192_000,
        description="a whole number of bits per second from 128000 to 8192000",
        extra={"unit": BIT_RATE},
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
Name = Annotated[str, Meta(min_length=1, max_length=250)]
Count = Annotated[int, Meta(ge=0)]
YesNo = Literal["default", "yes", "no"]
CallType = Literal["video", "video-only", "audio"]
Crypto = Literal["besteffort", "on", "off"]
DirectMedia = Literal["never", "best_effort", "always"]
NonIdpParticipants = Literal["disallow_all", "allow_if_trusted"]
Pixels = Literal["sd", "hd", "fullhd"]


DOC, TRANSCRIBED, DISPUTED = Confidence.DOCUMENTED, Confidence.TRANSCRIBED, Confidence.DISPUTED
PERSONAL, SECRET = Privacy.PERSONAL, Privacy.SECRET

NOT_ALLOW = {"allow": "Infinity refuses 'allow' here; write 'allow_if_trusted'"}
ROLES = {"host": "a Host is 'chair'", "Host": "a Host is 'chair'"}

# fmt: off
# ruff: noqa: E501 - a table is read by its rows
SERVICE: dict[str, Field] = {
    "name": Field("unique name of the service; of a breakout: the name of its main room; of a gateway: unique per call"),
    "service_tag": Field("text for tracking; returned in later requests; may be empty"),
    "service_type": Field("kind of service"),
    "description": Field("text", TRANSCRIBED, "oda, pexip-tf"),
    "allow_guests": Field("guests may join", default="false"),
    "pin": Field("Host PIN", DOC, "v11, pexip-tf", privacy=SECRET),
    "guest_pin": Field("guest PIN", DOC, "v11, pexip-tf", privacy=SECRET),
    "host_identity_provider_group": Field("identity providers for hosts; empty means no single sign-on", TRANSCRIBED, "oda, twofin"),
    "guest_identity_provider_group": Field("identity providers for guests; empty means no single sign-on", TRANSCRIBED, "oda, twofin"),
    "non_idp_participants": Field("treatment of callers who cannot sign on", DOC, "pexip-tf", "disallow_all", slips=NOT_ALLOW),
    "automatic_participants": Field("participants that the conference calls when it starts", default="none"),
    "breakout_rooms": Field("the room may have breakout rooms", default="false"),
    "bypass_proxy": Field("media go straight to the transcoding node", default="false"),
    "call_type": Field("media of the call", default="video"),
    "crypto_mode": Field("encryption; null is the global setting", default="null"),
    "denoise_enabled": Field("noise is removed", default="false"),
    "softmute_enabled": Field("soft mute", default="false"),
    "direct_media": Field("media directly between two participants", default="never"),
    "direct_media_notification_duration": Field("seconds of notice before direct media", DOC, "pexip-tf", "0"),
    "enable_active_speaker_indication": Field("the active speaker is shown", default="false"),
    "enable_overlay_text": Field("names are shown", default="false"),
    "enable_chat": Field("chat", default="default"),
    "force_presenter_into_main": Field("a presenter is shown in the main view", default="false"),
    "guest_view": Field("layout for guests", default="one_main_seven_pips"),
    "host_view": Field("layout for hosts", default="one_main_seven_pips"),
    "view": Field("layout", default="one_main_seven_pips"),
    "guests_can_present": Field("guests may present", default="true"),
    "guests_can_see_guests": Field("guests see other guests", default="no_hosts"),
    "ivr_theme_name": Field("name of a theme in Infinity"),
    "live_captions_enabled": Field("live captions", default="default"),
    "live_captions_language": Field("language of the captions"),
    "source_language": Field("language that is spoken"),
    "local_display_name": Field("name shown to the other side", privacy=PERSONAL),
    "locked": Field("locked; read only when the conference starts", default="false"),
    "max_callrate_in": Field("highest rate from a participant; the management API has the same in kbit/s"),
    "max_callrate_out": Field("highest rate to a participant; the management API has the same in kbit/s"),
    "max_pixels_per_second": Field("highest resolution; null is the global setting", default="null"),
    "mute_all_guests": Field("guests join muted", default="false"),
    "participant_limit": Field("maximum number of participants", DOC, "pexip-tf"),
    "pinning_config": Field("name of a pinning configuration of the theme"),
    "prefer_ipv6": Field("IPv6 for outgoing media", default="default"),
    "primary_owner_email_address": Field("mail address of the owner", DOC, "pexip-tf", privacy=PERSONAL),
    "local_alias": Field("alias to call from, which a return call would reach", privacy=PERSONAL),
    "remote_alias": Field("alias to call", privacy=PERSONAL),
    "outgoing_protocol": Field("protocol of the outgoing call", DOC, "pexip-tf"),
    "called_device_type": Field("kind of device that is called", DOC, "pexip-tf", "external"),
    "denoise_audio": Field("noise is removed; Google Meet", default="true"),
    "dtmf_sequence": Field("tones sent when the call is answered; a comma is a pause of 2 s", TRANSCRIBED, "oda, pexip-tf", privacy=SECRET),
    "external_participant_avatar_lookup": Field("avatars from Teams", default="default"),
    "h323_gatekeeper_name": Field("name of a gatekeeper in Infinity", default="DNS"),
    "sip_proxy_name": Field("name of a SIP proxy in Infinity", default="DNS"),
    "stun_server_name": Field("name of a STUN server in Infinity", default="automatic"),
    "turn_server_name": Field("name of a TURN server in Infinity", default="automatic"),
    "outgoing_location_name": Field("name of the system location that places the call", default="automatic"),
    "gms_access_token_name": Field("name of a Google Meet access token in Infinity"),
    "mssip_proxy_name": Field("name of a Skype for Business server in Infinity"),
    "teams_proxy_name": Field("name of a Teams Connector in Infinity"),
    "teams_fit_to_frame": Field("pictures from Teams fill the frame", default="no"),
    "transcoding_enabled": Field("media are transcoded (preview)", default="true"),
    "treat_as_trusted": Field("the caller counts as trusted", default="false"),
    "match_string": Field("regular expression for the typed number; blank matches any", DOC, "pexip-tf"),
    "replace_string": Field("replacement of the match", DOC, "pexip-tf"),
    "post_match_string": Field("regular expression for the alias found; blank matches any", DOC, "pexip-tf"),
    "post_replace_string": Field("replacement of that match", DOC, "pexip-tf"),
    "system_location_name": Field("name of the system location that looks up codes"),
    "two_stage_dial_type": Field("kind of reception", default="regular"),
    "media_playlist_name": Field("name of a playlist in Infinity; some scripts send media_playlist with a number instead (reported)"),
    "on_completion": Field("action after the playlist"),
    "breakout": Field("this is a breakout room"),
    "breakout_uuid": Field("UUID of the breakout room"),
    "breakout_name": Field("name of the breakout room, shown to participants"),
    "breakout_description": Field("text about the breakout room"),
    "breakout_guests_allowed_to_leave": Field("guests may leave the breakout room", default="false"),
    "end_action": Field("action at the end of the breakout", default="transfer"),
    "end_time": Field("end of the breakout in seconds since 1970, 0 is open", default="0"),
    "breakout_uuids": Field("main room only: its breakout rooms; a Host joins each as control-only"),
}

AUTOMATIC_PARTICIPANT: dict[str, Field] = {
    "local_alias": Field("alias to call from", privacy=PERSONAL),
    "remote_alias": Field("alias to call", privacy=PERSONAL),
    "protocol": Field("protocol of the call"),
    "role": Field("role of the participant", slips=ROLES),
    "call_type": Field("media of the call", default="video"),
    "keep_conference_alive": Field("whether this participant keeps the conference alive", default="keep_conference_alive_if_multiple"),
    "routing": Field("how the call is routed", default="manual"),
    "streaming": Field("the participant is a stream", default="false"),
    "dtmf_sequence": Field("tones sent when the call is answered", privacy=SECRET),
    "local_display_name": Field("name shown to the participant", privacy=PERSONAL),
    "remote_display_name": Field("name of the participant", privacy=PERSONAL),
    "description": Field("text"),
    "presentation_url": Field("RTMP address for the presentation", privacy=SECRET),
    "system_location_name": Field("name of the system location that places the call"),
}
# fmt: on

NAMED_OBJECTS: dict[str, str] = {
    "ivr_theme_name": "themes",
    "host_identity_provider_group": "identity_provider_groups",
    "guest_identity_provider_group": "identity_provider_groups",
    "h323_gatekeeper_name": "h323_gatekeepers",
    "sip_proxy_name": "sip_proxies",
    "stun_server_name": "stun_servers",
    "turn_server_name": "turn_servers",
    "outgoing_location_name": "locations",
    "system_location_name": "locations",
    "gms_access_token_name": "gms_access_tokens",
    "mssip_proxy_name": "mssip_proxies",
    "teams_proxy_name": "teams_proxies",
    "media_playlist_name": "media_playlists",
    "location": "locations",
    "overflow_locations": "locations",
    "primary_overflow_location": "locations",
    "secondary_overflow_location": "locations",
}
"""Fields that name an object of Infinity, and the key of ``[infinity]`` that lists the names."""
