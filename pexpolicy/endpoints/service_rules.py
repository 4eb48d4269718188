"""The rules between the fields of a service (section 6 of the contract), as a table.

Each row: the field that the rule is evaluated for, the rule, the confidence, the source, and the
predicate of a breach. Rules that Pexip documents refuse the decision; others are warnings on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pexpolicy.models.rules import Confidence, Rule

DOC, TRANSCRIBED, REPORTED, DISPUTED = (
    Confidence.DOCUMENTED,
    Confidence.TRANSCRIBED,
    Confidence.REPORTED,
    Confidence.DISPUTED,
)

UUID_PATTERN = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
PIN_PATTERN = "^([0-9]{3,19}#|[0-9]{4,20})?$"
BREAKOUT_BLOCK = (
    "breakout_uuid",
    "breakout_name",
    "breakout_description",
    "breakout_guests_allowed_to_leave",
    "end_action",
    "end_time",
)
ONLY_WITH = {
    "teams_proxy_name": ("teams",),
    "teams_fit_to_frame": ("teams",),
    "external_participant_avatar_lookup": ("teams",),
    "gms_access_token_name": ("gms",),
    "denoise_audio": ("gms",),
    "treat_as_trusted": ("teams", "gms"),
    "live_captions_enabled": ("teams", "gms"),
}
"""Fields of a gateway that only these outgoing protocols use."""
UNUSED = (False, "", "no", "default")
_LAYOUTS = """
    one_main_zero_pips one_main_seven_pips one_main_twentyone_pips two_mains_twentyone_pips
    four_mains_zero_pips nine_mains_zero_pips sixteen_mains_zero_pips twentyfive_mains_zero_pips
    five_mains_seven_pips one_main_thirtythree_pips
"""
CORE_LAYOUTS = frozenset(_LAYOUTS.split())
"""Layouts on which at least three sources agree."""
EARLIEST, LATEST = 946_684_800, 4_102_444_800
"""The years 2000 and 2100 in seconds since 1970."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_uuid = re.compile(UUID_PATTERN).fullmatch
_pin = re.compile(PIN_PATTERN).fullmatch


def is_odd_name(name: str) -> bool:
    """Return true for an unreadable name: with control characters, or with blanks only."""
    return name.isspace() or (not name.isprintable() and _CONTROL.search(name) is not None)


def _is_invalid_pattern(written: str) -> bool:
    try:
        re.compile(written)
    except (re.error, OverflowError, RecursionError):
        return True
    return False


def _unfit_replacement(match: str, replace: str) -> Callable[[Any], bool]:
    """Return whether a replacement names a group that the pattern lacks, or has a wrong escape."""

    def broken(sent: Any) -> bool:
        # A blank pattern matches any alias; which groups it then has is not known.
        pattern = getattr(sent, match) or "()" * 9
        try:
            re.sub(pattern, getattr(sent, replace), "")
        except IndexError:
            return True
        except (re.error, OverflowError, RecursionError):
            return not _is_invalid_pattern(pattern)
        return False

    return broken


def _pins_end_differently(pin: str, guest: str) -> bool:
    if not pin or not guest:
        return False
    if pin[-1] == "#" or guest[-1] == "#":
        return pin[-1] != guest[-1]
    return len(pin) != len(guest)


def _unused_field(name: str) -> Rule:
    """Return the rule that only some protocols use a field of a gateway."""
    protocols = ONLY_WITH[name]

    def broken(sent: Any) -> bool:
        return getattr(sent, name) not in UNUSED and sent.outgoing_protocol not in protocols

    text = f"is used for outgoing_protocol = {' or '.join(protocols)} only"
    return Rule(name, text, TRANSCRIBED, broken, advice=True)


# fmt: off
# ruff: noqa: E501 - a table is read by its rows
_CAPTIONS = Rule(
    "live_captions_language", "must agree with source_language where captions are made by AIMS 1.0", REPORTED,
    lambda s: s.source_language and s.live_captions_language != s.source_language)
PINS = (
    Rule("pin", "must be 4 to 20 characters, digits with a # at the end or without", DOC,  # v11, pexip-tf
         lambda s: _pin(s.pin) is None),
    Rule("guest_pin", "must be 4 to 20 characters, digits with a # at the end or without", DOC,  # v11, pexip-tf
         lambda s: _pin(s.guest_pin) is None),
    Rule("allow_guests", "guests are allowed without a Host PIN", DISPUTED,  # pexip-tf, ps, dbg; oda sends it
         lambda s: s.allow_guests is True and not s.pin),
    Rule("guest_pin", "needs allow_guests = true, without which the answer is said to be dropped", REPORTED,  # ps, dbg
         lambda s: s.allow_guests is not True and s.guest_pin),
    Rule("guest_pin", "an empty guest PIN is accepted by some versions at least; leave it out", DISPUTED,  # ps, dbg; lorist sends it
         lambda s: not s.guest_pin),
    Rule("guest_pin", "PIN and guest PIN must have one length, or both end in #", REPORTED,  # ps, dbg
         lambda s: _pins_end_differently(s.pin, s.guest_pin)),
    Rule("guest_pin", "PIN and guest PIN must differ", REPORTED,  # ps, dbg
         lambda s: s.pin and s.guest_pin == s.pin),
    Rule("pin", "an empty PIN is said to be rejected; leave it out", DISPUTED,  # ps, dbg
         lambda s: not s.pin and s.allow_guests is not False),
)
_BREAKOUT = (
    Rule("breakout", "a breakout room cannot have breakout rooms: breakout_rooms must be false", TRANSCRIBED,  # oda, oda-local
         lambda s: s.breakout is True and s.breakout_rooms is True),
    Rule("breakout", "breakout_uuid and breakout_name are required with it", TRANSCRIBED,
         lambda s: s.breakout is True and not (s.breakout_uuid and s.breakout_name)),
    *(Rule(name, "belongs to a breakout room: breakout = true is required with it", TRANSCRIBED,
           lambda s: s.breakout is not True) for name in BREAKOUT_BLOCK),
    Rule("breakout_uuid", "must be a UUID, written 8-4-4-4-12", TRANSCRIBED,
         lambda s: _uuid(s.breakout_uuid) is None),
    Rule("breakout_uuids", "each must be a UUID, written 8-4-4-4-12", TRANSCRIBED,
         lambda s: not all(map(_uuid, s.breakout_uuids))),
    Rule("breakout", "the name of a breakout room is that of its main room", DISPUTED,  # oda; ps differs
         lambda s: s.breakout is True and "_breakout_" in s.name),
    Rule("breakout_uuids", "belongs to the main room, and this is a breakout room", REPORTED,
         lambda s: s.breakout is True),
    Rule("direct_media", "excludes breakout rooms: direct_media = never or breakout_rooms = false is needed", TRANSCRIBED,
         lambda s: s.breakout_rooms is True and s.direct_media != "never"),
)
_ROOM = (
    Rule("breakout", "allow_guests is said to conflict with a breakout room", DISPUTED,  # ps; oda sends it
         lambda s: s.breakout is True and s.allow_guests is True),
    _CAPTIONS,
    Rule("end_time", "is before the year 2000 or after 2100: write seconds since 1970, or 0", REPORTED,
         lambda s: s.end_time and not EARLIEST < s.end_time < LATEST, advice=True),
)
_LECTURE = (
    Rule("host_view", "five_mains_seven_pips is not for lectures", DOC,  # pexip-tf
         lambda s: s.host_view == "five_mains_seven_pips"),
    Rule("guest_view", "five_mains_seven_pips is not for lectures", DOC,  # pexip-tf
         lambda s: s.guest_view == "five_mains_seven_pips"),
)
_ALIASES = (
    Rule("local_alias", "is required, and empty", REPORTED, lambda s: not s.local_alias),
    Rule("remote_alias", "is required, and empty", REPORTED, lambda s: not s.remote_alias),
)
NAMES = (
    Rule("name", "holds control characters, or nothing but blanks", REPORTED,
         lambda s: is_odd_name(s.name), advice=True),
)
_PATTERNS = (
    Rule("match_string", "is not a regular expression", REPORTED, lambda s: _is_invalid_pattern(s.match_string)),
    Rule("post_match_string", "is not a regular expression", REPORTED,  # oda, pexip-tf
         lambda s: _is_invalid_pattern(s.post_match_string)),
    *(Rule(f"{which}replace_string", f"does not fit {which}match_string: \\1 is its first group, and \\\\ a backslash", REPORTED,
           _unfit_replacement(f"{which}match_string", f"{which}replace_string")) for which in ("", "post_")),
)
_PROTOCOL = Rule(
    "protocol", "only the management API knows teams and gms", DISPUTED,  # oda; pexip-tf differs
    lambda s: s.protocol in ("teams", "gms"))
# fmt: on


def _layout(field: str) -> Rule:
    """Return the rule of a layout field; it only warns, as the published lists differ."""
    text = "not a layout on which at least three sources agree"
    # oda, ps, dbg
    return Rule(field, text, DISPUTED, lambda sent: getattr(sent, field) not in CORE_LAYOUTS)


ROOM = (*NAMES, *PINS, *_BREAKOUT, *_ROOM)
RECEPTION = (*NAMES, *_PATTERNS)
CONFERENCE = (*ROOM, _layout("view"))
LECTURE = (*ROOM, _layout("host_view"), _layout("guest_view"), *_LECTURE)
GATEWAY = (*NAMES, *_ALIASES, _CAPTIONS, *map(_unused_field, ONLY_WITH), _layout("view"))
AUTOMATIC_PARTICIPANT = (*_ALIASES, _PROTOCOL)
