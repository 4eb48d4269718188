"""What Infinity makes of an output."""

from collections.abc import Callable

import pytest

from pexpolicy import MediaLocation
from pexpolicy_local_policy.verdict import Verdict

Judge = Callable[..., Verdict]
UPDATE = '{"action": "continue", "result": {{ service_config|pex_update(%s)|pex_to_json }}}'


def test_changed_fields_are_named(verdict: Judge) -> None:
    found = verdict(UPDATE % '{"pin": "", "guest_pin": "", "allow_guests": false}')
    assert not found.dropped
    assert found.changed == ("pin", "guest_pin", "allow_guests")


def test_fields_that_only_infinity_set_are_not_judged(verdict: Judge) -> None:
    own = {"name": "", "view": "new_layout", "internal": 1, "service_type": "conference"}
    found = verdict(UPDATE % '{"pin": "123456"}', service_config=own)
    assert not found.dropped
    assert not found.warnings
    assert verdict(UPDATE % '{"view": 1}', service_config=own).dropped


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", "it is empty"),
        ("[]", "not an object"),
        ("{} x", "extra data"),
        ('{"action": "continue", "result": {"a": NaN}}', "NaN is no number"),
        ('{"result": {}}', "there is no action"),
        ('{"action": "abstain", "result": {}}', "'abstain' is not one of continue"),
        ('{"action": "continue", "result": []}', "result is a list, not an object"),
        ('{"action": "continue", "result": {"service_type": "room"}}', "service_type"),
        ('{"action": "continue", "result": {"service_type": "conference"}}', "name"),
        ('{"action": "redirect", "result": {"alias": "sip:a@b"}}', "new_alias"),
        ('{"action": "redirect"}', "there is no result"),
    ],
)
def test_what_is_dropped(verdict: Judge, output: str, reason: str) -> None:
    found = verdict("{% raw %}" + output + "{% endraw %}", service_config=None)
    assert reason in found.dropped


@pytest.mark.parametrize(
    ("output", "warning"),
    [
        ('{"action": "reject", "action": "continue", "result": {}}', "action is printed twice"),
        ('{"action": "reject"}', "there is no result"),
        ('{"action": "reject", "result": {"a": 1}}', "the result of a reject is not used"),
    ],
)
def test_what_is_doubtful(verdict: Judge, output: str, warning: str) -> None:
    found = verdict("{% raw %}" + output + "{% endraw %}", service_config=None)
    assert not found.dropped
    assert warning in found.warnings[0]


def test_text_booleans_are_doubtful(verdict: Judge) -> None:
    found = verdict(UPDATE % '{"allow_guests": "True"}')
    assert not found.dropped
    assert "allow_guests" in found.warnings[0]


def test_a_short_value_keeps_the_configuration(verdict: Judge) -> None:
    found = verdict('{{ "a"|pex_require_min_length(2) }}')
    assert found.dropped.startswith("line 1: pex_require_min_length")


def test_locations(verdict: Judge) -> None:
    suggested = {"location": "Oslo", "primary_overflow_location": "Paris"}
    both = {"kind": "media_location", "suggested_media_overflow_locations": suggested}
    passed = verdict('{"result": {{ suggested_media_overflow_locations|pex_to_json }}}', **both)
    assert not passed.dropped
    assert not passed.warnings
    assert verdict('{"result": {}}', **both).dropped == "the result has no location"
    assert verdict('{"result": {"location": ""}}', **both).dropped
    chosen = verdict('{"result": {"location": "Rome", "overflow_locations": ["X"]}}', **both)
    assert chosen.changed == ("location", "overflow_locations")


@pytest.mark.parametrize("action", ['"reject"', '"redirect"', '"continue"', "null", "7"])
def test_the_action_of_a_location_is_ignored(verdict: Judge, action: str) -> None:
    output = f'{{"action": {action}, "result": {{"location": "Oslo"}}}}'
    found = verdict(output, kind="media_location", suggested_media_overflow_locations={})
    assert (found.action, found.result, found.dropped) == ("continue", {"location": "Oslo"}, "")
    assert found.warnings == ("action: scripts for media locations have none",)
    assert isinstance(found.decision, MediaLocation)


def test_participants(verdict: Judge) -> None:
    who = {"kind": "participant", "participant": {"preauthenticated_role": None, "call_uuid": "1"}}
    found = verdict('{"action": "continue", "result": {"preauthenticated_role": "chair"}}', **who)
    assert found.changed == ("preauthenticated_role",)
    assert verdict('{"action": "redirect", "result": {}}', **who).dropped
    assert not verdict(
        '{"action": "continue", "result": {{ participant|pex_to_json }}}', **who
    ).dropped
    refused = verdict('{"action": "reject", "result": {"reject_reason": "No."}}', **who)
    assert refused.action == "reject"
    assert not refused.warnings


def test_calls_that_dial_out_change_nothing_but_ipv6(verdict: Judge) -> None:
    found = verdict(UPDATE % '{"pin": "1234"}', call_info={"call_direction": "dial_out"})
    assert "only prefer_ipv6 has an effect" in found.warnings[0]


PIN = "482913"


@pytest.mark.parametrize(
    "output",
    [
        *('{"a": "' + "x" * length + PIN + '", "b" "c"}' for length in range(12, 40)),
        *('{"a" "' + "x" * length + PIN + '"}' for length in range(12, 40)),
        f'"{PIN}"',
        PIN,
        f'{{"action": "{PIN}"}}',
        f'{{"action": "continue", "result": "{PIN}"}}',
        f'{{"action": "continue", "result": {PIN}}}',
        f'{{"action": "continue", "result": {{"{PIN}": 1, "{PIN}": 1}}}}',
        f'{{"action": "reject", "result": {{"{PIN}": 1}}}}',
    ],
)
def test_no_excerpt_shows_a_part_of_a_pin(verdict: Judge, output: str) -> None:
    for kind in ("service", "participant"):
        found = verdict(
            "{% raw %}" + output + "{% endraw %}", kind=kind, service_config={"pin": PIN}
        )
        text = " ".join((found.summary, *found.warnings))
        shown = [text[at : at + 3] for at in range(len(text) - 2)]
        assert not any(part in PIN for part in shown), text
