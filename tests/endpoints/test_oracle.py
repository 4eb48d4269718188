"""The oracle passes what Infinity takes and names the rule that anything else breaks."""

import json
from typing import Any

import pytest

from tests.support.oracle import judge
from tests.support.oracle_fields import CONTESTED, DOCUMENTED_STAR, FIELD, Violation

SERVICE, PARTICIPANT, LOCATION, DIRECTORY, REGISTRATION, AVATAR = (
    "service_configuration",
    "participant_properties",
    "media_location",
    "directory_information",
    "registration_alias",
    "participant_avatar",
)
UUID = "11111111-2222-3333-4444-555555555555"
JSON = "application/json"


def ok(result: object = None, action: str | None = "continue", **extra: object) -> dict[str, Any]:
    reply: dict[str, Any] = {"status": "success"}
    if action is not None:
        reply["action"] = action
    if result is not None:
        reply["result"] = result
    return reply | extra


def of_type(service_type: str, /, **fields: object) -> dict[str, Any]:
    return ok({"name": "Room", "service_tag": "", "service_type": service_type} | fields)


def vmr(**fields: object) -> dict[str, Any]:
    return of_type("conference", **fields)


def lecture(**fields: object) -> dict[str, Any]:
    return of_type("lecture", **fields)


def gateway(**fields: object) -> dict[str, Any]:
    needed = {"local_alias": "a@b.c", "remote_alias": "d@e.f", "outgoing_protocol": "sip"}
    return of_type("gateway", **(needed | fields))


def playback(**fields: object) -> dict[str, Any]:
    return of_type("media_playback", **({"media_playlist_name": "Ads"} | fields))


def dial(**fields: object) -> dict[str, Any]:
    needed = {"local_alias": "a", "remote_alias": "b", "protocol": "sip", "role": "guest"}
    return vmr(automatic_participants=[{k: v for k, v in (needed | fields).items() if v != "-"}])


def breakout(**fields: object) -> dict[str, Any]:
    block = {"breakout": True, "breakout_uuid": UUID, "breakout_name": "One"}
    return vmr(**{k: v for k, v in (block | fields).items() if v != "-"})


def without(reply: dict[str, Any], *names: str) -> dict[str, Any]:
    return reply | {"result": {k: v for k, v in reply["result"].items() if k not in names}}


def entry(**fields: object) -> dict[str, Any]:
    return {"alias": "a@b.c", "description": "A", "username": ""} | fields


def jpeg(width: int = 40, height: int = 30, components: int = 3, marker: int = 0xC0) -> bytes:
    frame = bytes([8]) + height.to_bytes(2, "big") + width.to_bytes(2, "big") + bytes([components])
    frame += bytes([1, 0x11, 0]) * components
    segments = [(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"), (0xDB, bytes(65)), (marker, frame)]
    segments += [(0xC4, bytes(28)), (0xDA, bytes([components, 1, 0, 0, 63, 0]))]
    body = b"".join(
        bytes([0xFF, kind]) + (len(data) + 2).to_bytes(2, "big") + data for kind, data in segments
    )
    return b"\xff\xd8" + body + b"\x12\x34\xff\x00\x56" + b"\xff\xd9"


def judged(
    endpoint: str,
    reply: object,
    query: str = "",
    status: int = 200,
    content_type: str | None = None,
) -> list[Violation]:
    if content_type is None:
        content_type = "image/jpeg" if endpoint == AVATAR and status == 200 else JSON
    body = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
    return judge(endpoint, query, status, content_type, body)


GOOD: list[tuple[Any, ...]] = [
    # Answers seen in real use.
    (
        SERVICE,
        {
            "status": "success",
            "result": {
                "service_type": "conference",
                "name": "Adhoc",
                "service_tag": "adhoc",
                "description": "An adhoc room",
                "pin": "1111",
                "guest_pin": "2222",
                "guests_can_present": True,
                "allow_guests": True,
                "view": "one_main_zero_pips",
                "automatic_participants": [],
            },
            "dennis_version": "1.0",
        },
    ),
    (SERVICE, vmr(host_identity_provider_group="")),
    (PARTICIPANT, ok({"remote_display_name": "Sergeant Pepper | Army"})),
    (SERVICE, {"status": "success", "action": "reject", "_reason": "licences"}),
    (SERVICE, gateway(name=f"To SIP:{UUID}"), "call_direction=dial_in"),
    (PARTICIPANT, ok({"reject_reason": "Not now"}, "reject")),
    (SERVICE, {"status": "fail", "action": "continue", "result": {}}, "", 404),
    # Forms that the contract calls working.
    (SERVICE, ok()),
    (SERVICE, ok({})),
    (SERVICE, ok({}, None)),
    (SERVICE, ok({}, "reject", decision_id="x", reason="no")),
    (SERVICE, vmr(), "", 200, "application/json; charset=utf-8"),
    (SERVICE, ok({"new_alias": "sip:bob@example.com"}, "redirect")),
    (SERVICE, vmr(pin="1234567890123456789#", crypto_mode=None, max_pixels_per_second=None)),
    (SERVICE, vmr(pin="0012", max_callrate_in=128000, max_callrate_out=8192000)),
    (SERVICE, vmr(direct_media="always", direct_media_notification_duration=30, locked=False)),
    (SERVICE, vmr(breakout_rooms=True, breakout_uuids=[UUID], participant_limit=0)),
    (SERVICE, lecture(host_view="one_main_seven_pips", guests_can_see_guests="always")),
    (SERVICE, gateway(outgoing_protocol="teams", treat_as_trusted=True, call_type="auto")),
    (SERVICE, of_type("two_stage_dialing", match_string="", two_stage_dial_type="teams")),
    (SERVICE, of_type("test_call", max_callrate_in=512000)),
    (SERVICE, playback(on_completion={"disconnect": True}, allow_guests=False)),
    (SERVICE, playback(on_completion={"transfer": {"conference": "b", "role": "chair"}})),
    (SERVICE, dial(call_type="audio", routing="routing_rule", streaming=True)),
    (SERVICE, breakout(end_time=0, end_action="disconnect"), f"breakout_uuid={UUID}"),
    (SERVICE, vmr(name="é" * 250, description="\N{GRINNING FACE}")),
    (SERVICE, vmr(), "call_direction=dial_out&service_name=Room&service_tag="),
    (PARTICIPANT, ok()),
    (PARTICIPANT, ok({"preauthenticated_role": None, "spotlight": -1, "bypass_lock": True})),
    (PARTICIPANT, ok({"remote_display_name": None}), "remote_display_name="),
    (PARTICIPANT, ok({"send_to_audio_mixes": [{"mix_name": "a.b.c", "prominent": True}]})),
    (PARTICIPANT, ok({"rx_presentation_policy": "DENY", "display_count": 2})),
    (LOCATION, ok({"location": "Oslo", "overflow_locations": ["London", "Paris"]}, None)),
    (LOCATION, b"", "", 404),
    (LOCATION, b"Not here", "", 410, "text/plain"),
    (DIRECTORY, ok([entry(), entry(username="u")], None, ignore_local=True), "limit=2"),
    (DIRECTORY, ok([], None)),
    (REGISTRATION, ok({}, "reject")),
    (REGISTRATION, ok({}), "auth_type=%22sso%22"),
    (REGISTRATION, ok({"username": "u", "password": "p"}), "auth_type=%22credentials%22"),
    (AVATAR, jpeg(), "width=40&height=30"),
    (AVATAR, jpeg(marker=0xC2), "width=40&height=30"),
    (AVATAR, jpeg(), ""),
    (AVATAR, b"", "width=40&height=30", 404, ""),
]


@pytest.mark.parametrize("case", GOOD)
def test_a_good_reply_has_no_violation(case: tuple[Any, ...]) -> None:
    assert judged(*case) == []


# endpoint, reply, field, words of the rule; then query, status and content type where they matter.
BAD: list[tuple[Any, ...]] = [
    # Envelope.
    (SERVICE, b"", "", "not JSON"),
    (SERVICE, b"<html>", "", "not JSON"),
    (SERVICE, b'{"status":"success"', "", "not JSON"),
    (SERVICE, b'\xef\xbb\xbf{"status":"success"}', "", "not JSON"),
    (SERVICE, b'{"status":"success","reason":"\xff"}', "", "not JSON"),
    (SERVICE, b'{"status":"success","x":NaN}', "", "NaN"),
    (SERVICE, b'{"status":"success","x":-Infinity}', "", "-Infinity"),
    (SERVICE, b'{"status":"success","x":1e999}', "", "out of range"),
    (SERVICE, b'{"status":"success","status":"success"}', "", "duplicate key"),
    (SERVICE, b'{"status":"success","x":"\\uD800"}', "", "lone surrogate"),
    (SERVICE, b'{"status":"success","\\udc00":1}', "", "lone surrogate"),
    (SERVICE, b'{"status":"success","x":' + b"[" * 9**6, "", "not JSON"),
    (SERVICE, [], "", "must be an object"),
    (SERVICE, None, "", "must be an object"),
    (SERVICE, {}, "status", "only the exact text success"),
    (SERVICE, {"status": "Success"}, "status", "only the exact text success"),
    (SERVICE, {"status": "success "}, "status", "only the exact text success"),
    (SERVICE, {"status": True}, "status", "only the exact text success"),
    (SERVICE, vmr() | {"status": "failed"}, "result", "loses its result"),
    (SERVICE, ok(action="Reject"), "action", "not an action"),
    (SERVICE, ok() | {"action": None}, "action", "not an action"),
    (PARTICIPANT, ok(action="redirect"), "action", "not an action"),
    (LOCATION, ok({"location": "A"}, "reject"), "action", "has no action"),
    (DIRECTORY, ok([], "reject"), "action", "has no action"),
    (SERVICE, vmr(), "content-type", "application/json", "", 200, "text/html"),
    (SERVICE, vmr(), "content-type", "application/json", "", 200, ""),
    (SERVICE, ok(), "status", "sent with 200", "", 201),
    (SERVICE, b"", "status", "sent with 200", "", 204),
    (SERVICE, b"", "status", "redirects are not followed", "", 302),
    (SERVICE, vmr(), "result", "lost without 200", "", 404),
    (SERVICE, vmr() | {"result": None}, "result", "wrong shape"),
    (SERVICE, ok("x"), "result", "wrong shape"),
    (SERVICE, ok([]), "result", "wrong shape"),
    # Rejects that let somebody in, and redirects that lead nowhere.
    (SERVICE, vmr() | {"action": "reject"}, "result", "reject with a result"),
    (PARTICIPANT, ok({"call_tag": "x"}, "reject"), "result", "reject_reason alone"),
    (PARTICIPANT, ok({"reject_reason": 5}, "reject"), "result.reject_reason", "must be text"),
    (PARTICIPANT, ok({"reject_reason": "x" * 251}, "reject"), "result.reject_reason", "longer"),
    (REGISTRATION, ok(action="reject"), "result", "must have an empty result"),
    (REGISTRATION, ok({"username": "u"}, "reject"), "result", "reject with a result"),
    (SERVICE, ok({"new_alias": "bob"}, "redirect"), "result.new_alias", "with a scheme"),
    (SERVICE, ok({"new_alias": "sip:"}, "redirect"), "result.new_alias", "with a scheme"),
    (SERVICE, ok({"new_alias": "sip:" + "x" * 247}, "redirect"), "result.new_alias", "longer"),
    (SERVICE, ok({"new_alias": "sip:a", "name": "x"}, "redirect"), "result", "new_alias alone"),
    # Service configuration: required fields.
    (SERVICE, without(vmr(), "name"), "result.name", "is required"),
    (SERVICE, without(vmr(), "service_tag"), "result.service_tag", "is required"),
    (SERVICE, without(vmr(), "service_type"), "result.service_type", "is required"),
    (SERVICE, without(gateway(), "local_alias"), "result.local_alias", "is required"),
    (SERVICE, without(gateway(), "remote_alias"), "result.remote_alias", "is required"),
    (SERVICE, without(gateway(), "outgoing_protocol"), "result.outgoing_protocol", "required"),
    (SERVICE, without(playback(), "media_playlist_name"), "result.media_playlist_name", "requ"),
    # Types.
    (SERVICE, vmr(name=5), "result.name", "must be text"),
    (SERVICE, vmr(service_tag=None), "result.service_tag", "must be text"),
    (SERVICE, of_type("vmr"), "result.service_type", "not an allowed"),
    (SERVICE, of_type("Conference"), "result.service_type", "not an allowed"),
    (SERVICE, vmr(service_type=["conference"]), "result.service_type", "must be text"),
    (SERVICE, vmr(allow_guests="False"), "result.allow_guests", "must be a boolean"),
    (SERVICE, vmr(locked=0), "result.locked", "must be a boolean"),
    (SERVICE, vmr(mute_all_guests=None), "result.mute_all_guests", "must be a boolean"),
    (SERVICE, vmr(participant_limit=True), "result.participant_limit", "must be an integer"),
    (SERVICE, vmr(participant_limit="5"), "result.participant_limit", "must be an integer"),
    (SERVICE, vmr(participant_limit=5.0), "result.participant_limit", "must be an integer"),
    (SERVICE, vmr(pin=1234), "result.pin", "must be text"),
    (SERVICE, vmr(view=7), "result.view", "must be text"),
    (SERVICE, vmr(automatic_participants={}), "result.automatic_participants", "a list"),
    (SERVICE, vmr(automatic_participants=["a"]), "result.automatic_participants[0]", "object"),
    (SERVICE, vmr(breakout_uuids=UUID), "result.breakout_uuids", "must be a list"),
    (SERVICE, vmr(breakout_uuids=["1"]), "result.breakout_uuids[0]", "must be a UUID"),
    # Lengths.
    (SERVICE, vmr(name="x" * 251), "result.name", "longer than 250"),
    (SERVICE, vmr(description="é" * 251), "result.description", "longer than 250"),
    (SERVICE, of_type("two_stage_dialing", match_string="x" * 251), "result.match_string", "250"),
    # Ranges.
    (SERVICE, vmr(max_callrate_in=127999), "result.max_callrate_in", "range"),
    (SERVICE, vmr(max_callrate_out=8192001), "result.max_callrate_out", "range"),
    (SERVICE, vmr(max_callrate_out=2048), "result.max_callrate_out", "range"),
    (SERVICE, vmr(participant_limit=1_000_001), "result.participant_limit", "range"),
    (SERVICE, vmr(participant_limit=-1), "result.participant_limit", "range"),
    # Allowed values.
    (SERVICE, vmr(call_type="auto"), "result.call_type", "not an allowed"),
    (SERVICE, vmr(call_type="Video"), "result.call_type", "not an allowed"),
    (SERVICE, gateway(call_type="voice"), "result.call_type", "not an allowed"),
    (SERVICE, vmr(crypto_mode="required"), "result.crypto_mode", "not an allowed"),
    (SERVICE, vmr(crypto_mode=""), "result.crypto_mode", "not an allowed"),
    (SERVICE, vmr(max_pixels_per_second="4k"), "result.max_pixels_per_second", "not an allowed"),
    (SERVICE, vmr(enable_chat=True), "result.enable_chat", "must be text"),
    (SERVICE, vmr(enable_chat="on"), "result.enable_chat", "not an allowed"),
    (SERVICE, vmr(live_captions_enabled="true"), "result.live_captions_enabled", "not an all"),
    (SERVICE, vmr(prefer_ipv6="maybe"), "result.prefer_ipv6", "not an allowed"),
    (SERVICE, vmr(direct_media="yes"), "result.direct_media", "not an allowed"),
    (SERVICE, vmr(non_idp_participants="allow"), "result.non_idp_participants", "not an all"),
    (SERVICE, lecture(guests_can_see_guests="yes"), "result.guests_can_see_guests", "not an a"),
    (SERVICE, lecture(host_view="five_mains_seven_pips"), "result.host_view", "not for lect"),
    (SERVICE, gateway(outgoing_protocol="webrtc"), "result.outgoing_protocol", "not an allowed"),
    (SERVICE, gateway(called_device_type="phone"), "result.called_device_type", "not an allow"),
    (SERVICE, gateway(teams_fit_to_frame=True), "result.teams_fit_to_frame", "must be text"),
    (SERVICE, gateway(outgoing_location_name=""), "result.outgoing_location_name", "no location"),
    (SERVICE, of_type("test_call", max_callrate_in=1), "result.max_callrate_in", "range"),
    (SERVICE, playback(on_completion={}), "result.on_completion", "either disconnect or"),
    (SERVICE, playback(on_completion={"disconnect": 1}), "result.on_completion", "either"),
    (SERVICE, playback(on_completion={"disconnect": False}), "result.on_completion", "either"),
    (SERVICE, playback(on_completion="later"), "result.on_completion", "either disconnect or"),
    (
        SERVICE,
        playback(on_completion={"transfer": {"conference": "b", "role": "boss"}}),
        "result.on_completion.transfer.role",
        "not an allowed",
    ),
    # PINs.
    (SERVICE, vmr(pin="12a4"), "result.pin", "digits"),
    (SERVICE, vmr(pin="1234*"), "result.pin", "digits"),
    (SERVICE, vmr(pin="12#45"), "result.pin", "digits"),
    (SERVICE, vmr(pin="1234\n"), "result.pin", "digits"),
    (SERVICE, vmr(pin="١٢٣٤"), "result.pin", "digits"),
    (SERVICE, vmr(pin="123"), "result.pin", "4 to 20"),
    (SERVICE, vmr(pin="1" * 21), "result.pin", "4 to 20"),
    (SERVICE, vmr(pin="1234", guest_pin="12 34", allow_guests=True), "result.guest_pin", "digi"),
    # Automatic participants.
    (SERVICE, dial(local_alias="-"), "result.automatic_participants[0].local_alias", "required"),
    (SERVICE, dial(remote_alias="-"), "result.automatic_participants[0].remote_alias", "requi"),
    (SERVICE, dial(protocol="-"), "result.automatic_participants[0].protocol", "is required"),
    (SERVICE, dial(role="-"), "result.automatic_participants[0].role", "is required"),
    (SERVICE, dial(role="host"), "result.automatic_participants[0].role", "not an allowed"),
    (SERVICE, dial(protocol="webrtc"), "result.automatic_participants[0].protocol", "not an"),
    (SERVICE, dial(call_type="auto"), "result.automatic_participants[0].call_type", "not an"),
    (SERVICE, dial(routing="auto"), "result.automatic_participants[0].routing", "not an allowed"),
    (SERVICE, dial(streaming="yes"), "result.automatic_participants[0].streaming", "boolean"),
    # Breakouts.
    (SERVICE, breakout(breakout_uuid="-"), "result.breakout_uuid", "required in a breakout"),
    (SERVICE, breakout(breakout_name="-"), "result.breakout_name", "required in a breakout"),
    (SERVICE, breakout(breakout_uuid=UUID.replace("-", "")), "result.breakout_uuid", "UUID"),
    (SERVICE, breakout(breakout="-"), "result.breakout", "a breakout block needs it"),
    (SERVICE, breakout(breakout_rooms=True), "result.breakout_rooms", "no breakout rooms"),
    (SERVICE, breakout(end_action="stay"), "result.end_action", "not an allowed"),
    (SERVICE, breakout(end_time="soon"), "result.end_time", "must be an integer"),
    (SERVICE, breakout(end_time=-5), "result.end_time", "range"),
    (SERVICE, vmr(breakout_rooms=True, direct_media="best_effort"), "result.direct_media", "excl"),
    # Participant properties.
    (PARTICIPANT, ok({"bypass_lock": "True"}), "result.bypass_lock", "must be a boolean"),
    (PARTICIPANT, ok({"display_count": "2"}), "result.display_count", "must be an integer"),
    (PARTICIPANT, ok({"spotlight": 1.5}), "result.spotlight", "must be an integer"),
    (PARTICIPANT, ok({"call_tag": None}), "result.call_tag", "must be text"),
    (PARTICIPANT, ok({"remote_alias": "x" * 251}), "result.remote_alias", "longer than 250"),
    (PARTICIPANT, ok({"preauthenticated_role": "host"}), "result.preauthenticated_role", "not an"),
    (PARTICIPANT, ok({"rx_presentation_policy": "allow"}), "result.rx_presentation_policy", "not"),
    (PARTICIPANT, ok({"send_to_audio_mixes": "main"}), "result.send_to_audio_mixes", "a list"),
    (
        PARTICIPANT,
        ok({"send_to_audio_mixes": [{"mix_name": "a.b.c.d"}]}),
        "result.send_to_audio_mixes[0].mix_name",
        "dotted levels",
    ),
    (
        PARTICIPANT,
        ok({"remote_display_name": None}),
        "result.remote_display_name",
        "null only if",
        "remote_display_name=Dana",
    ),
    # Media location.
    (LOCATION, ok({"overflow_locations": ["B"]}, None), "result.location", "is required"),
    (LOCATION, ok({"location": ""}, None), "result.location", "no location has an empty name"),
    (LOCATION, ok({"location": None}, None), "result.location", "must be text"),
    (
        LOCATION,
        ok({"location": "A", "overflow_locations": [1]}),
        "result.overflow_locations[0]",
        "te",
    ),
    # Directory.
    (DIRECTORY, ok({}, None), "result", "wrong shape"),
    (DIRECTORY, ok({"contacts": []}, None), "result", "wrong shape"),
    (DIRECTORY, ok(["bob"], None), "result[0]", "must be an object"),
    (DIRECTORY, ok([{"alias": "a", "description": "b"}]), "result[0].username", "is required"),
    (DIRECTORY, ok([entry(description=None)]), "result[0].description", "must be text"),
    (DIRECTORY, ok([entry(), entry(alias="x" * 251)]), "result[1].alias", "longer than 250"),
    (DIRECTORY, ok([entry()] * 3), "result", "more entries than limit", "limit=2"),
    (DIRECTORY, ok([], None, ignore_local="True"), "ignore_local", "must be a boolean"),
    # Registration.
    (REGISTRATION, ok({"username": "u"}), "result.password", "is required"),
    (REGISTRATION, ok({"username": 1, "password": "p"}), "result.username", "must be text"),
    (REGISTRATION, ok({"username": "u", "password": "p"}), "result", "SSO", "auth_type=sso"),
    # Avatars.
    (AVATAR, b"\x89PNG\r\n\x1a\n", "", "must be a JPEG"),
    (AVATAR, b"", "", "must be a JPEG"),
    (AVATAR, jpeg()[:60], "", "must be a JPEG"),
    (AVATAR, jpeg()[:-2], "", "must be a JPEG"),
    (AVATAR, jpeg(marker=0xC8), "", "must be a JPEG"),
    (AVATAR, jpeg(), "width", "exactly as large", "width=41&height=30"),
    (AVATAR, jpeg(), "height", "exactly as large", "width=40&height=31"),
    (AVATAR, jpeg(components=4), "components", "three colour"),
    (AVATAR, jpeg(components=1), "components", "three colour"),
    (AVATAR, jpeg(), "content-type", "image/jpeg", "", 200, "image/png"),
    (AVATAR, b"", "status", "redirects", "", 301, "image/jpeg"),
]


@pytest.mark.parametrize("case", BAD)
def test_a_bad_reply_is_found_for_its_own_reason_alone(case: tuple[Any, ...]) -> None:
    endpoint, reply, field, words, *request = case
    fatal = [violation for violation in judged(endpoint, reply, *request) if violation.fatal]
    assert [violation.field for violation in fatal] == [field]
    assert words in fatal[0].rule


# endpoint, reply, field, mark; then query, status and content type where they matter.
DOUBTFUL: list[tuple[Any, ...]] = [
    (SERVICE, vmr(pin=""), "result.pin", CONTESTED),
    (SERVICE, vmr(allow_guests=True), "result.pin", FIELD),
    (SERVICE, vmr(allow_guests=True, host_identity_provider_group="g"), "result.pin", CONTESTED),
    (SERVICE, vmr(pin="1234", guest_pin="5678"), "result.guest_pin", FIELD),
    (SERVICE, vmr(pin="1234", guest_pin="1234", allow_guests=True), "result.guest_pin", FIELD),
    (SERVICE, vmr(pin="1234", guest_pin="56789", allow_guests=True), "result.guest_pin", FIELD),
    (SERVICE, vmr(pin="1234#", guest_pin="56789", allow_guests=True), "result.guest_pin", FIELD),
    (SERVICE, vmr(view="teams"), "result.view", CONTESTED),
    (SERVICE, vmr(name=""), "result.name", FIELD),
    (SERVICE, vmr(call_tag="x"), "result.call_tag", FIELD),
    (SERVICE, vmr(host_view="one_main_zero_pips"), "result.host_view", FIELD),
    (SERVICE, dial(protocol="teams"), "result.automatic_participants[0].protocol", CONTESTED),
    (SERVICE, playback(on_completion='{"disconnect": true}'), "result.on_completion", CONTESTED),
    (SERVICE, breakout(allow_guests=True, pin="1234"), "result.allow_guests", CONTESTED),
    (SERVICE, breakout(name=f"Room_breakout_{UUID}"), "result.name", CONTESTED),
    (SERVICE, breakout(breakout_uuids=[UUID]), "result.breakout_uuids", FIELD),
    (SERVICE, vmr(), "result.breakout", DOCUMENTED_STAR, f"breakout_uuid={UUID}"),
    (SERVICE, gateway(treat_as_trusted=True), "result.treat_as_trusted", DOCUMENTED_STAR),
    (SERVICE, vmr(), "result", FIELD, "call_direction=non_dial"),
    (SERVICE, vmr(), "result.name", DOCUMENTED_STAR, "call_direction=dial_out&service_name=B"),
    (SERVICE, {"status": "failed", "action": "reject"}, "status", FIELD),
    (SERVICE, ok(action="reject"), "action", CONTESTED, "", 404),
    (SERVICE, b"", "status", FIELD, "", 500),
    (SERVICE, b"", "status", FIELD, "", 401),
    (PARTICIPANT, ok({"private_custom_properties": {}}), "result.private_custom_properties", FIELD),
    (PARTICIPANT, ok({"reject_reason": "x"}), "result.reject_reason", FIELD),
    (LOCATION, ok({}, None), "result", CONTESTED),
    (LOCATION, ok(None, None), "result", CONTESTED),
    (
        LOCATION,
        ok({"location": "A", "primary_overflow_location": "B"}),
        "result.primary_overflow_location",
        CONTESTED,
    ),
    (DIRECTORY, ok([entry(mail="x")]), "result[0].mail", FIELD),
    (REGISTRATION, ok({"username": "", "password": ""}), "result", FIELD),
    (AVATAR, b"<html>", "content-type", FIELD, "", 404, "text/html"),
]


@pytest.mark.parametrize("case", DOUBTFUL)
def test_a_doubtful_reply_is_warned_about_and_no_more(case: tuple[Any, ...]) -> None:
    endpoint, reply, field, mark, *request = case
    violations = judged(endpoint, reply, *request)
    assert [(v.field, v.mark, v.fatal) for v in violations] == [(field, mark, False)]


def test_every_fault_of_a_reply_is_listed() -> None:
    found = judged(SERVICE, vmr(pin="abc", locked="no", view=1), content_type="text/plain")
    assert {v.field for v in found} == {
        "content-type",
        "result.pin",
        "result.locked",
        "result.view",
    }


def test_an_unknown_endpoint_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown endpoint"):
        judge("participant_audioavatar", "", 200, JSON, b"{}")
