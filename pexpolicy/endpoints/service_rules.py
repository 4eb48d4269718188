"""The rules between the fields of a service (section 6 of the contract), as a table.

Each row: the field that the rule is looked at for, the rule, how sure it is, who says so, and when it is
broken. Rules that Pexip documents refuse the decision; the others are warnings on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pexpolicy.checked import Mark, Rule

CORE_LAYOUTS = frozenset(
    (
        "one_main_zero_pips",
        "one_main_seven_pips",
        "one_main_twentyone_pips",
        "two_mains_twentyone_pips",
        "four_mains_zero_pips",
        "nine_mains_zero_pips",
        "sixteen_mains_zero_pips",
        "twentyfive_mains_zero_pips",
        "five_mains_seven_pips",
        "one_main_thirtythree_pips",
    )
)
"""Layouts on which at least three sources agree."""
DOCUMENTED_LAYOUTS = frozenset(
    (
        "one_main_one_pip",
        "one_main_nine_around",
        "one_main_twelve_around",
        "two_mains_eight_around",
        "teams",
    )
)
TEAMS_ONLY = ("teams_proxy_name", "teams_fit_to_frame", "external_participant_avatar_lookup")
MEET_ONLY = ("gms_access_token_name", "denoise_audio")

Fields = Mapping[str, Any]


def _pins_end_differently(fields: Fields) -> bool:
    pin, guest = fields.get("pin"), fields["guest_pin"]
    if not pin or not guest:
        return False
    if pin.endswith("#") or guest.endswith("#"):
        return bool(pin.endswith("#") != guest.endswith("#"))
    return len(pin) != len(guest)


def _no_host_pin(fields: Fields) -> bool:
    return fields["allow_guests"] is True and not fields.get("pin")


def _media_is_direct(fields: Fields) -> bool:
    return fields["direct_media"] != "never" and fields.get("breakout_rooms") is True


def _languages_differ(fields: Fields) -> bool:
    other = fields.get("source_language")
    return other is not None and fields["live_captions_language"] != other


def _bad_completion(fields: Fields) -> bool:
    value = fields["on_completion"]
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return True
    if not isinstance(value, dict):
        return True
    if value.keys() == {"disconnect"}:
        return value["disconnect"] is not True
    transfer = value.get("transfer")
    return value.keys() != {"transfer"} or not (
        isinstance(transfer, dict)
        and isinstance(transfer.get("conference"), str)
        and transfer.keys() <= {"conference", "role"}
        and transfer.get("role", "auto") in ("auto", "chair", "host", "guest")
    )


STAR, DOC, FIELD, CONTESTED = (
    Mark.DOCUMENTED_STAR,
    Mark.DOCUMENTED,
    Mark.FIELD,
    Mark.CONTESTED,
)

SERVICE: tuple[Rule, ...] = ()

# fmt: off
PINS = (
    Rule("allow_guests", "guests are allowed without a Host PIN", CONTESTED, "pexip-tf, ps, dbg; oda sends it",
         _no_host_pin),
    Rule("guest_pin", "a guest PIN without allow_guests = true is said to void the answer", FIELD, "ps, dbg",
         lambda f: f["guest_pin"] and f.get("allow_guests") is not True),
    Rule("guest_pin", "PIN and guest PIN must have one length, or both end in #", FIELD, "ps, dbg",
         _pins_end_differently),
    Rule("guest_pin", "PIN and guest PIN must differ", FIELD, "ps, dbg",
         lambda f: f["guest_pin"] and f["guest_pin"] == f.get("pin")),
    Rule("pin", "an empty PIN is said to be rejected; leave it out", CONTESTED, "ps, dbg",
         lambda f: f["pin"] == "" and f.get("allow_guests") is not False),
    Rule("guest_pin", "an empty guest PIN; leave it out", CONTESTED, "ps, dbg; lorist sends it",
         lambda f: f["guest_pin"] == ""),
)
ROOM = (
    *PINS,
    Rule("breakout", "a breakout room cannot have breakout rooms", STAR, "oda",
         lambda f: f["breakout"] is True and f.get("breakout_rooms") is True),
    Rule("breakout", "a breakout needs breakout_uuid and breakout_name", STAR, "oda",
         lambda f: f["breakout"] is True and not (f.get("breakout_uuid") and f.get("breakout_name"))),
    Rule("breakout", "the name of a breakout is that of its main room", CONTESTED, "oda; ps differs",
         lambda f: f["breakout"] is True and "_breakout_" in f["name"]),
    Rule("breakout", "allow_guests in a breakout is said to be in the way", CONTESTED, "ps; oda sends it",
         lambda f: f["breakout"] is True and f.get("allow_guests") is True),
    Rule("direct_media", "direct media excludes breakout rooms", STAR, "oda", _media_is_direct),
    Rule("live_captions_language", "must agree with source_language for live captions", FIELD, "oda",
         _languages_differ),
)
LECTURE = (
    Rule("host_view", "five_mains_seven_pips is not for lectures", DOC, "pexip-tf",
         lambda f: f["host_view"] == "five_mains_seven_pips"),
    Rule("guest_view", "five_mains_seven_pips is not for lectures", DOC, "pexip-tf",
         lambda f: f["guest_view"] == "five_mains_seven_pips"),
)
GATEWAY = (
    *(Rule(name, "means something for outgoing_protocol = teams only", FIELD, "oda",
           lambda f: f["outgoing_protocol"] != "teams") for name in TEAMS_ONLY),
    *(Rule(name, "means something for outgoing_protocol = gms only", FIELD, "oda",
           lambda f: f["outgoing_protocol"] != "gms") for name in MEET_ONLY),
    Rule("treat_as_trusted", "means something for Teams and Meet only", FIELD, "oda",
         lambda f: f["treat_as_trusted"] is True and f["outgoing_protocol"] not in ("teams", "gms")),
)
MEDIA_PLAYBACK = (
    Rule("on_completion", 'neither {"disconnect": true} nor {"transfer": {"conference": …, "role": …}}',
         CONTESTED, "oda, pexip-tf", _bad_completion),
)
# fmt: on


def layouts(field: str) -> tuple[Rule, ...]:
    """The rule for a field that names a layout: the published lists differ, so it only warns."""

    def unusual(fields: Fields) -> bool:
        return fields[field] not in CORE_LAYOUTS and fields[field] not in DOCUMENTED_LAYOUTS

    return (Rule(field, "not a layout on which the sources agree", CONTESTED, "ps, dbg", unusual),)
