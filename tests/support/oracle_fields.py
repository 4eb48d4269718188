"""Allowed values of each field of a policy result, for the oracle.

Written from the wire contract alone (its section 5); shares no code with the server, so that a
mistake in the server's models cannot hide here. A check takes a JSON value and its dotted path and
yields the rules that the value breaks.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

DOCUMENTED: Final = "DOCUMENTED"
DOCUMENTED_STAR: Final = "DOCUMENTED*"
FIELD: Final = "FIELD"
CONTESTED: Final = "CONTESTED"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: its text, how sure the contract is of it (mark), and the field's path.

    `advisory` is set if an official rule recommends something and nothing is dropped.
    """

    rule: str
    mark: str
    field: str = ""
    advisory: bool = False

    @property
    def fatal(self) -> bool:
        """Whether Infinity would drop or misread the reply, as far as official text says."""
        return self.mark in (DOCUMENTED, DOCUMENTED_STAR) and not self.advisory


Check = Callable[[object, str], Iterator[Violation]]
Fields = Mapping[str, Check]


def text(limit: int = 250, mark: str = DOCUMENTED_STAR, nullable: bool = False) -> Check:
    """Text of at most `limit` characters."""

    def check(value: object, path: str) -> Iterator[Violation]:
        if value is None and nullable:
            return
        if not isinstance(value, str):
            yield Violation("must be text", DOCUMENTED_STAR, path)
        elif len(value) > limit:
            yield Violation(f"text is longer than {limit} characters", mark, path)

    return check


def boolean(value: object, path: str) -> Iterator[Violation]:
    """A real JSON boolean."""
    if not isinstance(value, bool):
        yield Violation("must be a boolean", DOCUMENTED_STAR, path)


def integer(low: int | None = None, high: int | None = None, mark: str = DOCUMENTED_STAR) -> Check:
    """A JSON integer between `low` and `high`, both included."""

    def check(value: object, path: str) -> Iterator[Violation]:
        if not isinstance(value, int) or isinstance(value, bool):
            yield Violation("must be an integer", DOCUMENTED_STAR, path)
        elif (low is not None and value < low) or (high is not None and value > high):
            yield Violation(f"is outside the range {low} to {high}", mark, path)

    return check


def one_of(
    allowed: str, mark: str = DOCUMENTED_STAR, nullable: bool = False, disputed: str = ""
) -> Check:
    """One of the `allowed` words; the words in `disputed` are warned about only."""

    def check(value: object, path: str) -> Iterator[Violation]:
        if value is None and nullable:
            return
        if not isinstance(value, str):
            yield Violation("must be text", DOCUMENTED_STAR, path)
        elif value in disputed.split():
            yield Violation("sources disagree about this value", CONTESTED, path)
        elif value not in allowed.split():
            yield Violation("is not an allowed value", mark, path)

    return check


def list_of(check_item: Check) -> Check:
    """A list; every item is checked."""

    def check(value: object, path: str) -> Iterator[Violation]:
        if not isinstance(value, list):
            yield Violation("must be a list", DOCUMENTED_STAR, path)
            return
        for position, item in enumerate(value):
            yield from check_item(item, f"{path}[{position}]")

    return check


def record(fields: Fields, required: tuple[str, ...] = ()) -> Check:
    """An object: required fields present, known ones checked, unknown ones warned about."""

    def check(value: object, path: str) -> Iterator[Violation]:
        if not isinstance(value, dict):
            yield Violation("must be an object", DOCUMENTED_STAR, path)
            return
        for name in required:
            if name not in value:
                yield Violation("is required", DOCUMENTED_STAR, f"{path}.{name}")
        for name, item in value.items():
            if name in fields:
                yield from fields[name](item, f"{path}.{name}")
            else:
                yield Violation("is not a field of this result", FIELD, f"{path}.{name}")

    return check


CORE_LAYOUTS = (
    "one_main_zero_pips one_main_seven_pips one_main_twentyone_pips two_mains_twentyone_pips "
    "four_mains_zero_pips nine_mains_zero_pips sixteen_mains_zero_pips "
    "twentyfive_mains_zero_pips five_mains_seven_pips one_main_thirtythree_pips"
)


def layout(value: object, path: str) -> Iterator[Violation]:
    """A layout name. The sources' lists differ, so an unusual name is only a warning."""
    if not isinstance(value, str):
        yield Violation("must be text", DOCUMENTED_STAR, path)
    elif value not in CORE_LAYOUTS.split():
        yield Violation("is not a layout that all sources agree on", CONTESTED, path)


def lecture_layout(value: object, path: str) -> Iterator[Violation]:
    """A layout of a lecture, which has no adaptive one."""
    yield from layout(value, path)
    if value == "five_mains_seven_pips":
        yield Violation("the adaptive layout is not for lectures", DOCUMENTED, path)


def pin(value: object, path: str) -> Iterator[Violation]:
    """A PIN: text of digits with an optional final #, 4 to 20 characters in all."""
    if not isinstance(value, str):
        yield Violation("must be text", DOCUMENTED_STAR, path)
    elif value == "":
        yield Violation("an unset PIN should be left out", CONTESTED, path)
    elif not re.fullmatch(r"[0-9]+#?", value):
        yield Violation("a PIN is digits with an optional final #", DOCUMENTED, path)
    elif not 4 <= len(value) <= 20:
        yield Violation("a PIN has 4 to 20 characters", DOCUMENTED, path)


def uuid(value: object, path: str) -> Iterator[Violation]:
    """A UUID written 8-4-4-4-12."""
    pattern = r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        yield Violation("must be a UUID", DOCUMENTED_STAR, path)


def mix_name(value: object, path: str) -> Iterator[Violation]:
    """A dotted name of an audio mix with at most three levels."""
    yield from text()(value, path)
    if isinstance(value, str) and not re.fullmatch(r"[^.]+(\.[^.]+){0,2}", value, re.DOTALL):
        yield Violation("a mix name has one to three dotted levels", DOCUMENTED_STAR, path)


def place_name(value: object, path: str) -> Iterator[Violation]:
    """The name of a system location. None has an empty name."""
    yield from text()(value, path)
    if value == "":
        yield Violation("no location has an empty name", DOCUMENTED_STAR, path)


TRANSFER = record(
    {"conference": text(), "role": one_of("chair guest", disputed="auto host")},
    required=("conference",),
)


def on_completion(value: object, path: str) -> Iterator[Violation]:
    """What follows a playlist: `{"disconnect": true}` or `{"transfer": {…}}`."""
    if isinstance(value, str):
        yield Violation("an object or a JSON text: sources disagree", CONTESTED, path)
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    steps = value if isinstance(value, dict) else {}
    if list(steps) == ["transfer"]:
        yield from TRANSFER(steps["transfer"], f"{path}.transfer")
    elif list(steps) != ["disconnect"] or steps["disconnect"] is not True:
        yield Violation("must be either disconnect or transfer", DOCUMENTED_STAR, path)


AUTOMATIC_PARTICIPANT = record(
    {
        "local_alias": text(),
        "remote_alias": text(),
        "protocol": one_of("h323 sip mssip rtmp", disputed="teams gms"),
        "role": one_of("chair guest"),
        "call_type": one_of("video video-only audio"),
        "keep_conference_alive": one_of(
            "keep_conference_alive keep_conference_alive_if_multiple keep_conference_alive_never"
        ),
        "routing": one_of("manual routing_rule"),
        "streaming": boolean,
        "dtmf_sequence": text(),
        "local_display_name": text(),
        "remote_display_name": text(),
        "description": text(),
        "presentation_url": text(),
        "system_location_name": place_name,
    },
    required=("local_alias", "remote_alias", "protocol", "role"),
)

PARTICIPANT_FIELDS: Fields = {
    "bypass_lock": boolean,
    "call_tag": text(),
    "can_receive_personal_mix": boolean,
    "disable_overlay_text": boolean,
    "display_count": integer(),
    "layout_group": text(),
    "preauthenticated_role": one_of("chair guest", nullable=True),
    "prefers_multiscreen_mix": boolean,
    "wants_presentation_in_mix": boolean,
    "receive_from_audio_mix": text(),
    "send_to_audio_mixes": list_of(
        record({"mix_name": mix_name, "prominent": boolean}, required=("mix_name",))
    ),
    "remote_alias": text(),
    "remote_display_name": text(nullable=True),
    "rx_presentation_policy": one_of("ALLOW DENY"),
    "spotlight": integer(),
    "reject_reason": text(),
}
