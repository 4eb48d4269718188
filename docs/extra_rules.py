"""Rules of the contract that a predicate on one decision cannot express."""

from __future__ import annotations

from pexpolicy.models.rules import Confidence

# fmt: off
# ruff: noqa: E501 - a table is read by its rows
ELSEWHERE: tuple[tuple[str, str, Confidence, str], ...] = (
    ("`pin`, `guest_pin`", "4 to 20 characters with the #; v11 had 4 to 10. A deployment may require more", Confidence.DOCUMENTED, "is refused"),
    ("`pin`, `guest_pin`", "PINs are text, so that leading zeros are kept: the type of the fields", Confidence.TRANSCRIBED, "is refused"),
    ("`breakout`", "a request with `breakout_uuid` is answered with that breakout room", Confidence.TRANSCRIBED, "is sent, with a warning"),
    ("`Redirect`", "the result is `new_alias` alone: the class has no other field; only SIP callers are redirected", Confidence.TRANSCRIBED, "is sent, with a warning"),
    ("`name`, `service_tag`", "the answer to a `dial_out` request must match the running service, which the request names", Confidence.TRANSCRIBED, "is sent, with a warning"),
    ("every service", "the same service gets the same answer each time; `pin`, `guest_pin`, the identity provider groups and the rates may differ. `pexpolicy conformance` sends each request twice", Confidence.TRANSCRIBED, "is found by the conformance test"),
    ("names of Infinity's objects", "must exist in Infinity, spelled exactly: checked where `[infinity]` in the configuration lists them", Confidence.TRANSCRIBED, "is refused"),
    ("every decision", "a field that does not exist is an error in a class, and tolerated by Infinity in a plain dictionary", Confidence.REPORTED, "is sent, with a warning"),
    ("every decision", 'real booleans and numbers, no text such as "True": the types of the fields; `upstream` repairs booleans in replies that it relays', Confidence.REPORTED, "is refused"),
    ("`rx_presentation_policy`, roles", "`ALLOW` and `DENY` in capitals; `chair` and `guest`, not `host`: the values of the fields", Confidence.TRANSCRIBED, "is refused"),
    ("`non_idp_participants`", "`allow` is not a value; `disallow_all` is the default: the values of the field", Confidence.DOCUMENTED, "is refused"),
    ("`remote_display_name` of ParticipantProperties", "null only where the participant has no name", Confidence.TRANSCRIBED, "is refused"),
    ("`Credentials`", "single sign-on accepts an empty result only", Confidence.TRANSCRIBED, "is refused"),
    ("`Directory`", "at most `limit` entries: further ones are removed", Confidence.TRANSCRIBED, "cannot happen"),
    ("every service", "a `non_dial` request is a probe, for which nothing should be created", Confidence.REPORTED, "is sent, with a warning"),
    ("`Reject`", "a reject has no usable result; `reject_reason` is sent for participants only", Confidence.DOCUMENTED, "cannot happen"),
    ("`Avatar`", "a JPEG in RGB of exactly the requested size: other pictures are converted", Confidence.TRANSCRIBED, "cannot happen"),
)
# fmt: on
"""Subject, rule, confidence, and a breach."""

OTHER_LAYOUTS = (
    "one_main_one_pip",
    "one_main_nine_around",
    "one_main_twelve_around",
    "two_mains_eight_around",
    "teams",
    "teams_focus",
    "one_main_twentyone_around",
    "one_main_twelve_pips",
    "four_mains_eight_pips",
    "two_mains_zero_pips",
    "three_mains_zero_pips",
)
"""Layouts that one or two sources list: sent, with a warning."""
