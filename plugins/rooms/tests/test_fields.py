"""A room may set any field of any service type, and only what it sets is sent."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.config.settings import ConfigError
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.models.contract import contract_of

Build = Callable[..., Any]
UUID = "0f7a3a1c-0d5e-4b6e-9b57-0d1a2b3c4d5e"

# One value that Infinity takes for each field there is; no two of them are in each other's way.
VALUES: dict[str, Any] = {
    "name": "A name",
    "service_tag": "a tag",
    "description": "a text",
    "ivr_theme_name": "A theme",
    "max_pixels_per_second": "fullhd",
    "max_callrate_in": 2_000_000,
    "max_callrate_out": 128_000,
    "allow_guests": True,
    "pin": "0042",
    "guest_pin": "0007",
    "host_identity_provider_group": "Staff",
    "guest_identity_provider_group": "",
    "non_idp_participants": "allow_if_trusted",
    "automatic_participants": [
        {
            "local_alias": "from@example.com",
            "remote_alias": "to@example.com",
            "protocol": "sip",
            "role": "guest",
            "streaming": False,
        }
    ],
    "breakout_rooms": False,
    "bypass_proxy": True,
    "call_type": "audio",
    "crypto_mode": "on",
    "denoise_enabled": True,
    "denoise_audio": False,
    "softmute_enabled": True,
    "direct_media": "never",
    "direct_media_notification_duration": 30,
    "enable_active_speaker_indication": True,
    "enable_overlay_text": True,
    "enable_chat": "yes",
    "guests_can_present": False,
    "guests_can_see_guests": "always",
    "force_presenter_into_main": True,
    "view": "one_main_zero_pips",
    "guest_view": "one_main_seven_pips",
    "host_view": "four_mains_zero_pips",
    "live_captions_enabled": "no",
    "live_captions_language": "en",
    "source_language": "en",
    "local_display_name": "shown",
    "locked": True,
    "mute_all_guests": True,
    "participant_limit": 0,
    "pinning_config": "pins",
    "prefer_ipv6": "default",
    "primary_owner_email_address": "owner@example.com",
    "breakout": True,
    "breakout_uuid": UUID,
    "breakout_name": "Group 1",
    "breakout_description": "a text",
    "breakout_guests_allowed_to_leave": True,
    "end_action": "disconnect",
    "end_time": 1_790_000_000,
    "breakout_uuids": [UUID],
    "local_alias": "from@example.com",
    "remote_alias": "to@example.com",
    "outgoing_protocol": "teams",
    "called_device_type": "teams_conference",
    "dtmf_sequence": "1,2#",
    "external_participant_avatar_lookup": "no",
    "h323_gatekeeper_name": "A gatekeeper",
    "sip_proxy_name": "A proxy",
    "stun_server_name": "A server",
    "turn_server_name": "A server",
    "outgoing_location_name": "Oslo",
    "system_location_name": "Oslo",
    "gms_access_token_name": "A token",
    "mssip_proxy_name": "A proxy",
    "teams_proxy_name": "A connector",
    "teams_fit_to_frame": "yes",
    "transcoding_enabled": False,
    "treat_as_trusted": True,
    "match_string": r"^(\d+)$",
    "replace_string": r"\1@example.com",
    "post_match_string": "",
    "post_replace_string": "",
    "two_stage_dial_type": "teams",
    "media_playlist_name": "Music",
    "on_completion": {"transfer": {"conference": "lobby", "role": "guest"}},
}
BREAKOUT = {
    "breakout",
    "breakout_uuid",
    "breakout_name",
    "breakout_description",
    "breakout_guests_allowed_to_leave",
    "end_action",
    "end_time",
}
"""Fields of a breakout room, which has no breakout rooms itself."""
REQUIRED = {
    "gateway": {"local_alias", "remote_alias", "outgoing_protocol"},
    "media_playback": {"media_playlist_name"},
}


def fields_of(kind: str) -> list[str]:
    return sorted(contract_of(SERVICE_TYPES[kind]).names - {"service_type"})


def table(kind: str, fields: set[str]) -> dict[str, Any]:
    wanted = {"name", "service_tag", *REQUIRED.get(kind, ()), *fields}
    if wanted & BREAKOUT:
        wanted |= {"breakout", "breakout_uuid", "breakout_name"}
        wanted -= {"breakout_uuids", "breakout_rooms"}
    return {"service_type": kind, **{name: VALUES[name] for name in wanted}}


@pytest.mark.parametrize("kind", SERVICE_TYPES)
def test_every_field_there_is_can_be_set(build: Build, kind: str) -> None:
    for field in fields_of(kind):
        room = table(kind, {field})
        assert build({"rooms": {"x": room}}).ask("x").result == room, field


@pytest.mark.parametrize("kind", SERVICE_TYPES)
@given(data=st.data())
def test_what_a_room_sets_is_sent_and_nothing_else(
    build: Build, kind: str, data: st.DataObject
) -> None:
    room = table(kind, data.draw(st.sets(st.sampled_from(fields_of(kind)))))
    asked = build({"rooms": {"x@example.com": room}}).ask("sip:x@example.com")
    assert asked.result == room
    assert asked.step == "decided"


def test_a_room_is_a_conference_without_a_tag_unless_it_says_else(build: Build) -> None:
    asked = build({"rooms": {"x": {"name": "X"}}}).ask("x")
    assert asked.result == {"name": "X", "service_tag": "", "service_type": "conference"}


def test_a_theme_that_infinity_does_not_know_is_reported_before_any_call(build: Build) -> None:
    with pytest.raises(ConfigError) as caught:
        build(
            {"rooms": {"x@example.com": {"name": "X", "ivr_theme_name": "Winter"}}},
            infinity={"themes": ["Winters"]},
        )
    (problem,) = caught.value.problems
    assert str(problem) == (
        'plugins.rooms.settings.rooms."x@example.com".ivr_theme_name: '
        "'Winter' is not listed under [infinity] themes; did you mean 'Winters'?"
    )
