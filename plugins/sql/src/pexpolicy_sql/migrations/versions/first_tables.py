"""Rooms, devices and people."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

MAX = 250
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
ALIASES = {
    "postgresql": "string_agg(alias, ' ' ORDER BY position)",
    "sqlite": "group_concat(alias, ' ')",
}
VIEW = """
CREATE VIEW room_list AS SELECT
    (SELECT {aliases} FROM (
        SELECT alias, position FROM room_aliases WHERE room = rooms.name ORDER BY position
    ) AS ordered) AS aliases,
    rooms.*
FROM rooms
"""


def upgrade() -> None:
    """Create the tables and the view."""
    op.create_table(
        "rooms",
        sa.Column("name", sa.String(MAX), primary_key=True),
        sa.Column("service_type", sa.String(MAX), nullable=False, server_default="conference"),
        *(sa.Column(name, sa.Boolean()) for name in BOOLEANS.split()),
        *(sa.Column(name, sa.Integer()) for name in INTEGERS.split()),
        *(sa.Column(name, sa.Text()) for name in TEXTS.split()),
    )
    op.create_table(
        "room_aliases",
        sa.Column("alias", sa.String(MAX), primary_key=True),
        sa.Column(
            "room",
            sa.String(MAX),
            sa.ForeignKey("rooms.name", ondelete="CASCADE", onupdate="CASCADE"),
            nullable=False,
        ),
        sa.Column("position", sa.Integer(), nullable=False),
    )
    op.create_index("ix_room_aliases_room", "room_aliases", ["room"])
    op.create_table(
        "devices",
        sa.Column("alias", sa.String(MAX), primary_key=True),
        sa.Column("username", sa.String(MAX)),
        sa.Column("password", sa.String(MAX)),
        sa.Column("protocols", sa.String(MAX)),
        sa.Column("sso", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.create_table(
        "people",
        sa.Column("alias", sa.String(MAX), primary_key=True),
        sa.Column("name", sa.String(MAX), nullable=False),
        sa.Column("username", sa.String(MAX)),
        sa.Column("keywords", sa.String(MAX)),
        sa.Column("groups", sa.String(MAX)),
    )
    op.execute(VIEW.format(aliases=ALIASES[op.get_bind().dialect.name]))


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP VIEW room_list")
    for table in ("room_aliases", "rooms", "devices", "people"):
        op.drop_table(table)
