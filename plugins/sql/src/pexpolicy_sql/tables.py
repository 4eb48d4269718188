"""Tables for rooms, devices and people, as the newest migration leaves them."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Integer, MetaData, String, Table, Text, false

MAX = 250
"""Characters of a text of Infinity."""
VERSION_TABLE = "pexpolicy_version"
BOOLEANS = """
allow_guests breakout breakout_guests_allowed_to_leave breakout_rooms bypass_proxy denoise_audio
denoise_enabled enable_active_speaker_indication enable_overlay_text force_presenter_into_main
guests_can_present locked mute_all_guests softmute_enabled transcoding_enabled treat_as_trusted
"""
INTEGERS = """
direct_media_notification_duration end_time max_callrate_in max_callrate_out participant_limit
"""
TEXTS = """
automatic_participants breakout_description breakout_name breakout_uuid breakout_uuids call_type
called_device_type crypto_mode description direct_media dtmf_sequence enable_chat end_action
external_participant_avatar_lookup gms_access_token_name guest_identity_provider_group guest_pin
guest_view guests_can_see_guests h323_gatekeeper_name host_identity_provider_group host_view
ivr_theme_name live_captions_enabled live_captions_language local_alias local_display_name
match_string max_pixels_per_second media_playlist_name mssip_proxy_name non_idp_participants
on_completion outgoing_location_name outgoing_protocol pin pinning_config post_match_string
post_replace_string prefer_ipv6 primary_owner_email_address remote_alias replace_string
service_tag sip_proxy_name source_language stun_server_name system_location_name
teams_fit_to_frame teams_proxy_name turn_server_name two_stage_dial_type valid_from valid_until
view
"""
"""The fields of services by their type; lists of tables are JSON."""

METADATA = MetaData()

ROOMS = Table(
    "rooms",
    METADATA,
    Column("name", String(MAX), primary_key=True),
    Column("service_type", String(MAX), nullable=False, server_default="conference"),
    *(Column(name, Boolean) for name in BOOLEANS.split()),
    *(Column(name, Integer) for name in INTEGERS.split()),
    *(Column(name, Text) for name in TEXTS.split()),
)
ROOM_ALIASES = Table(
    "room_aliases",
    METADATA,
    Column("alias", String(MAX), primary_key=True),
    Column(
        "room",
        String(MAX),
        ForeignKey("rooms.name", ondelete="CASCADE", onupdate="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("position", Integer, nullable=False),
)
DEVICES = Table(
    "devices",
    METADATA,
    Column("alias", String(MAX), primary_key=True),
    Column("username", String(MAX)),
    Column("password", String(MAX)),
    Column("protocols", String(MAX)),
    Column("sso", Boolean, nullable=False, server_default=false()),
)
PEOPLE = Table(
    "people",
    METADATA,
    Column("alias", String(MAX), primary_key=True),
    Column("name", String(MAX), nullable=False),
    Column("username", String(MAX)),
    Column("keywords", String(MAX)),
    Column("groups", String(MAX)),
)
ROOM_LIST = "room_list"
"""A view of the rooms with all aliases of each in one column, separated by blanks."""
