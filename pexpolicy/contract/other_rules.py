"""Rules of the contract that are no predicate on one decision: where each is kept instead."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OtherRule:
    """One rule, in the columns of the table of rules."""

    row: int
    where: str
    text: str
    mark: str
    source: str
    breach: str


# fmt: off
# ruff: noqa: E501 - a table is read by its rows
ELSEWHERE = (
    OtherRule(2, "`pin`, `guest_pin`", "4 to 20 characters with the #; v11 had 4 to 10. Part of rule 1. A deployment may ask for more, which is not known here", "DOCUMENTED", "v11, pexip-tf", "is refused"),
    OtherRule(8, "`pin`, `guest_pin`", "PINs are text, so that leading zeros are kept: the type of the fields", "DOCUMENTED*", "oda", "is refused"),
    OtherRule(9, "`breakout`", "a request with `breakout_uuid` is answered with that breakout room", "DOCUMENTED*", "oda", "is sent, with a warning"),
    OtherRule(12, "`Redirect`", "the result is `new_alias` alone: the class has no other field; only SIP callers are redirected", "DOCUMENTED*", "oda", "is sent, with a warning"),
    OtherRule(13, "`name`, `service_tag`", "the answer to a `dial_out` request must match the running service, which the request names", "DOCUMENTED*", "oda", "is sent, with a warning"),
    OtherRule(14, "every service", "the same service gets the same answer each time; `pin`, `guest_pin`, the identity provider groups and the rates may differ. One decision cannot show it: `pexpolicy probe` asks twice", "DOCUMENTED*", "oda", "is found by the probe"),
    OtherRule(15, "names of Infinity's objects", "must exist in Infinity, spelled exactly: kept where `[infinity]` in the configuration lists them", "DOCUMENTED*", "oda", "is refused"),
    OtherRule(16, "every decision", "a field that does not exist is an error in a class, and tolerated by Infinity in a plain dictionary", "FIELD", "pexip-ex, lorist", "is sent, with a warning"),
    OtherRule(17, "every decision", 'real booleans and numbers, no text such as "True": the types of the fields', "FIELD", "oda-local", "is refused"),
    OtherRule(18, "`rx_presentation_policy`, roles", "`ALLOW` and `DENY` in capitals; `chair` and `guest`, not `host`: the values of the fields", "DOCUMENTED*", "oda", "is refused"),
    OtherRule(19, "`non_idp_participants`", "`allow` is no value; `disallow_all` is the default: the values of the field", "DOCUMENTED", "pexip-tf", "is refused"),
    OtherRule(0, "`remote_display_name` of ParticipantProperties", "null only where the participant has no name", "DOCUMENTED*", "oda", "is refused"),
    OtherRule(0, "`Credentials`", "single sign-on takes an empty result", "DOCUMENTED*", "oda", "is refused"),
    OtherRule(0, "`Directory`", "at most `limit` entries: those behind it are left out", "DOCUMENTED*", "oda", "cannot happen"),
    OtherRule(0, "every service", "a `non_dial` request is a probe, for which nothing should be created", "FIELD", "mividas", "is sent, with a warning"),
    OtherRule(0, "`Reject`", "nothing usable stands beside a reject; `reject_reason` goes with participants only", "DOCUMENTED", "v11", "cannot happen"),
    OtherRule(0, "`Avatar`", "a JPEG in RGB of exactly the asked size: other pictures are converted", "DOCUMENTED*", "oda", "cannot happen"),
)
# fmt: on
