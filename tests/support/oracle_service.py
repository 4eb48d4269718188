"""Oracle of service configuration: fields by service type, and cross-field rules.

Written from sections 5.1, 5.3 and 6 of the wire contract only.
"""

import re
from collections.abc import Iterator, Mapping

from tests.support.oracle_fields import (
    AUTOMATIC_PARTICIPANT,
    CONTESTED,
    DOCUMENTED,
    DOCUMENTED_STAR,
    FIELD,
    Check,
    Violation,
    boolean,
    integer,
    layout,
    lecture_layout,
    list_of,
    on_completion,
    one_of,
    pin,
    place_name,
    record,
    text,
    uuid,
)

# One letter per service type, as in the contract's table.
LETTERS = {
    "conference": "C",
    "lecture": "L",
    "gateway": "G",
    "two_stage_dialing": "T",
    "media_playback": "M",
    "test_call": "X",
}
ALL = "CLGTMX"
SWITCH = one_of("default yes no")
CALL_RATE = integer(128_000, 8_192_000)

ROWS: list[tuple[str, str, Check]] = [
    ("name service_tag description ivr_theme_name", ALL, text()),
    ("service_type", ALL, one_of(" ".join(LETTERS))),
    ("max_pixels_per_second", ALL, one_of("sd hd fullhd", nullable=True)),
    ("allow_guests", "CLM", boolean),
    ("pin guest_pin", "CLM", pin),
    ("host_identity_provider_group guest_identity_provider_group", "CLM", text()),
    ("non_idp_participants", "CLM", one_of("disallow_all allow_if_trusted", mark=DOCUMENTED)),
    ("automatic_participants", "CL", list_of(AUTOMATIC_PARTICIPANT)),
    ("breakout_rooms denoise_enabled softmute_enabled", "CL", boolean),
    ("guests_can_present locked mute_all_guests", "CL", boolean),
    ("bypass_proxy", "CLGTX", boolean),
    ("call_type", "CLTX", one_of("video video-only audio")),
    ("call_type", "G", one_of("video video-only audio auto")),
    ("crypto_mode", "CLGTX", one_of("besteffort on off", nullable=True)),
    ("direct_media", "CL", one_of("never best_effort always")),
    ("direct_media_notification_duration", "CL", integer(0, 30, DOCUMENTED)),
    ("enable_active_speaker_indication enable_overlay_text", "CLG", boolean),
    ("enable_chat", "CL", SWITCH),
    ("force_presenter_into_main", "L", boolean),
    ("guest_view host_view", "L", lecture_layout),
    ("view", "CG", layout),
    ("guests_can_see_guests", "L", one_of("no_hosts always never")),
    ("live_captions_enabled prefer_ipv6", "CLG", SWITCH),
    ("live_captions_language source_language", "CLG", text()),
    ("local_display_name", "CLGTX", text()),
    ("max_callrate_in", "CLGTMX", CALL_RATE),
    ("max_callrate_out", "CLGTM", CALL_RATE),
    ("participant_limit", "CL", integer(0, 1_000_000, DOCUMENTED)),
    ("pinning_config", "CL", text()),
    ("primary_owner_email_address", "CL", text(100, DOCUMENTED)),
    ("local_alias remote_alias dtmf_sequence", "G", text()),
    ("outgoing_protocol", "G", one_of("h323 sip mssip rtmp gms teams", mark=DOCUMENTED)),
    (
        "called_device_type",
        "G",
        one_of(
            "external registration mssip_conference_id mssip_server gms_conference "
            "teams_conference teams_user telehealth_profile",
            mark=DOCUMENTED,
        ),
    ),
    ("denoise_audio transcoding_enabled treat_as_trusted", "G", boolean),
    ("external_participant_avatar_lookup", "G", SWITCH),
    ("h323_gatekeeper_name sip_proxy_name stun_server_name turn_server_name", "G", text()),
    ("outgoing_location_name", "G", place_name),
    ("gms_access_token_name mssip_proxy_name teams_proxy_name", "GT", text()),
    ("teams_fit_to_frame", "G", one_of("no yes")),
    ("match_string replace_string post_match_string post_replace_string", "T", text()),
    ("system_location_name", "T", place_name),
    ("two_stage_dial_type", "T", one_of("regular mssip gms teams")),
    ("media_playlist_name", "M", text()),
    ("on_completion", "M", on_completion),
    ("breakout breakout_guests_allowed_to_leave", "CL", boolean),
    ("breakout_uuid", "CL", uuid),
    ("breakout_name breakout_description", "CL", text()),
    ("end_action", "CL", one_of("transfer disconnect")),
    ("end_time", "CL", integer(0)),
    ("breakout_uuids", "CL", list_of(uuid)),
]
REQUIRED = {
    "G": ("local_alias", "outgoing_protocol", "remote_alias"),
    "M": ("media_playlist_name",),
}
BREAKOUT_BLOCK = (
    "breakout_uuid breakout_name breakout_description breakout_guests_allowed_to_leave "
    "end_action end_time"
)
ONLY_WITH = {
    "treat_as_trusted": "teams gms",
    "gms_access_token_name": "gms",
    "denoise_audio": "gms",
    "teams_proxy_name": "teams",
    "teams_fit_to_frame": "teams",
    "external_participant_avatar_lookup": "teams",
    "live_captions_enabled": "teams gms",
}


def fields_of(letters: str) -> dict[str, Check]:
    """Fields that any of the service types in `letters` has."""
    found: dict[str, Check] = {}
    for names, types, check in ROWS:
        if set(types) & set(letters):
            for name in names.split():
                found.setdefault(name, check)
    return found


BY_LETTER = {letter: fields_of(letter) for letter in ALL}
ANY_TYPE = fields_of(ALL)


def judge_service(result: dict[str, object], query: Mapping[str, list[str]]) -> Iterator[Violation]:
    """Judge the result of a service configuration answer to a request with this query."""
    service_type = result.get("service_type")
    letter = LETTERS.get(service_type, "") if isinstance(service_type, str) else ""
    required = ("name", "service_tag", "service_type", *REQUIRED.get(letter, ()))
    yield from record(BY_LETTER.get(letter, ANY_TYPE), required)(result, "result")
    for name in required:
        if name != "service_tag" and result.get(name) == "":
            yield Violation("a required text is empty", FIELD, f"result.{name}")
    yield from guest_rules(result)
    yield from breakout_rules(result, query)
    if letter == "G":
        yield from gateway_rules(result)
    yield from request_rules(result, query)


def guest_rules(result: dict[str, object]) -> Iterator[Violation]:
    """PINs, guests and identity providers (section 6, rules 3 to 7)."""
    host, guest = result.get("pin"), result.get("guest_pin")
    guests = result.get("allow_guests") is True
    if guests and not host:
        sso = result.get("host_identity_provider_group")
        mark = CONTESTED if sso else FIELD
        yield Violation("allow_guests needs a Host pin", mark, "result.pin")
    if guest is not None and not guests:
        mark = CONTESTED if guest == "" else FIELD
        yield Violation("guest_pin without allow_guests", mark, "result.guest_pin")
    if not (isinstance(host, str) and isinstance(guest, str) and host and guest):
        return
    if host == guest:
        yield Violation("pin and guest_pin are the same", FIELD, "result.guest_pin")
    ends = host.endswith("#"), guest.endswith("#")
    if ends[0] != ends[1] or (not any(ends) and len(host) != len(guest)):
        yield Violation("PINs need one length or both a final #", FIELD, "result.guest_pin")


def breakout_rules(
    result: dict[str, object], query: Mapping[str, list[str]]
) -> Iterator[Violation]:
    """The breakout block and what excludes breakouts (5.3; section 6, rules 9 to 11)."""
    if result.get("breakout_rooms") is True and result.get("direct_media", "never") != "never":
        rule = "direct media excludes breakout rooms"
        yield Violation(rule, DOCUMENTED_STAR, "result.direct_media")
    if result.get("breakout") is True:
        yield from inside_breakout(result)
        return
    if any(name in result for name in BREAKOUT_BLOCK.split()):
        yield Violation("a breakout block needs it", DOCUMENTED_STAR, "result.breakout")
    if any(query.get("breakout_uuid", ())):
        rule = "a breakout request needs a breakout block"
        yield Violation(rule, DOCUMENTED_STAR, "result.breakout", advisory=True)


def inside_breakout(result: dict[str, object]) -> Iterator[Violation]:
    """What holds for the answer that describes a breakout itself."""
    for name in ("breakout_uuid", "breakout_name"):
        if name not in result:
            yield Violation("is required in a breakout", DOCUMENTED_STAR, f"result.{name}")
    if result.get("breakout_rooms") is True:
        rule = "a breakout has no breakout rooms"
        yield Violation(rule, DOCUMENTED_STAR, "result.breakout_rooms")
    if "breakout_uuids" in result:
        yield Violation("is for the main room only", FIELD, "result.breakout_uuids")
    if result.get("allow_guests") is True:
        yield Violation("guests in a breakout", CONTESTED, "result.allow_guests")
    if "_breakout_" in str(result.get("name")):
        yield Violation("a breakout bears the main room's name", CONTESTED, "result.name")


def gateway_rules(result: dict[str, object]) -> Iterator[Violation]:
    """Fields that only one outgoing protocol has a use for (section 6, rule 20)."""
    for name, protocols in ONLY_WITH.items():
        in_use = result.get(name) not in (None, False, "", "no", "default")
        if in_use and result.get("outgoing_protocol") not in protocols.split():
            yield Violation(
                f"makes sense with {protocols} only", DOCUMENTED_STAR, f"result.{name}", True
            )


def request_rules(result: dict[str, object], query: Mapping[str, list[str]]) -> Iterator[Violation]:
    """What the question itself demands of the answer (section 3; section 6, rule 13)."""
    direction = query.get("call_direction", [""])[0]
    if direction == "non_dial":
        yield Violation("a probe should create nothing", FIELD, "result")
    for name, parameter in (("name", "service_name"), ("service_tag", "service_tag")):
        running = query.get(parameter, [""])[0]
        if direction == "dial_out" and running and result.get(name) != running:
            yield Violation(
                "differs from the running service", DOCUMENTED_STAR, f"result.{name}", True
            )


def judge_redirect(result: dict[str, object]) -> Iterator[Violation]:
    """Judge the result of a redirect: exactly one full alias with its scheme (rule 12)."""
    if set(result) != {"new_alias"}:
        yield Violation("a redirect holds new_alias alone", DOCUMENTED_STAR, "result")
    alias = result.get("new_alias")
    if not isinstance(alias, str) or not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:.", alias):
        yield Violation("must be an alias with a scheme", DOCUMENTED_STAR, "result.new_alias")
    yield from text()(alias, "result.new_alias")
