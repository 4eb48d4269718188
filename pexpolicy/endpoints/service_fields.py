"""Fields of a service: types, confidence, privacy, and the objects of Infinity that they name."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from pexpolicy.endpoints import service_rules
from pexpolicy.models.rules import PERSONAL, SECRET, Confidence, Field, Privacy

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
Name = Annotated[str, Meta(min_length=1, max_length=250)]
Count = Annotated[int, Meta(ge=0)]
YesNo = Literal["default", "yes", "no"]
CallType = Literal["video", "video-only", "audio"]
Crypto = Literal["besteffort", "on", "off"]
DirectMedia = Literal["never", "best_effort", "always"]
NonIdpParticipants = Literal["disallow_all", "allow_if_trusted"]
Pixels = Literal["sd", "hd", "fullhd"]


DOCUMENTED = Field(Confidence.DOCUMENTED)  # pexip-tf
SERVICE = {
    **dict.fromkeys(("pin", "guest_pin"), Field(Confidence.DOCUMENTED, Privacy.SECRET)),  # v11
    "primary_owner_email_address": Field(Confidence.DOCUMENTED, Privacy.PERSONAL),  # pexip-tf
    "non_idp_participants": DOCUMENTED,
    "direct_media_notification_duration": DOCUMENTED,
    "participant_limit": DOCUMENTED,
    "outgoing_protocol": DOCUMENTED,
    "called_device_type": DOCUMENTED,
    "match_string": DOCUMENTED,
    "replace_string": DOCUMENTED,
    "post_match_string": DOCUMENTED,
    "post_replace_string": DOCUMENTED,
    "local_display_name": PERSONAL,
    "local_alias": PERSONAL,
    "remote_alias": PERSONAL,
    "dtmf_sequence": SECRET,
}
AUTOMATIC_PARTICIPANT = {
    "local_alias": PERSONAL,
    "remote_alias": PERSONAL,
    "local_display_name": PERSONAL,
    "remote_display_name": PERSONAL,
    "dtmf_sequence": SECRET,
    "presentation_url": SECRET,
}

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
