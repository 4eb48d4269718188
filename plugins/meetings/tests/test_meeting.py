"""What is wrong with the fields of a request, and what a meeting makes of them."""

import time
from typing import Any

import pytest

from pexpolicy.config.schema.plugins import InfinityTable
from pexpolicy_meetings.meeting import Meeting, merge_patch, parsed, patched, shown
from pexpolicy_meetings.settings import MeetingsSettings, TenantOf, known_tenants
from tests.support.booked import REVIEW, TENANTS, at

NOW = at("08:00:00")


def faults(acme: TenantOf, body: Any, meeting_id: str = "crm-7") -> list[tuple[int, str]]:
    """Return the status and the pointer of each fault."""
    found = parsed(body, acme, NOW, meeting_id=meeting_id)
    assert isinstance(found, list), found
    assert not any("4711" in one.message or "12a456" in one.message for one in found)
    return [(one.status, one.pointer) for one in found]


def meeting(acme: TenantOf, **fields: Any) -> Meeting:
    made = parsed({**REVIEW, **fields}, acme, NOW, meeting_id="crm-7")
    assert isinstance(made, Meeting), made
    return made


def test_all_faults_are_found_at_once(acme: TenantOf) -> None:
    body = {
        "start": "2030-06-01T10:00:00",
        "end": "2030-06-01T09:00:00Z",
        "host_pin": 4711,
        "guest_pin": "12a456",
    }
    pointers = sorted(pointer for _, pointer in faults(acme, body))
    assert pointers == ["/end", "/guest_pin", "/host_pin", "/start"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"start": None}, "/start"),
        ({"start": "2030-06-01 at ten"}, "/start"),
        ({"start": "2030-06-01T23:59:60Z"}, "/start"),
        ({"start": "2030-02-30T10:00:00Z"}, "/start"),
        ({"start": "20300601T080000Z"}, "/start"),
        ({"start": "2030-W22-6T08:00:00Z"}, "/start"),
        ({"end": "9999-06-01T11:00:00Z"}, "/end"),
        ({"end": "2030-07-03T11:00:00Z"}, "/end"),
        ({"early_minutes": 181}, "/early_minutes"),
        ({"early_minutes": True}, "/early_minutes"),
        ({"late_minutes": -1}, "/late_minutes"),
        ({"lobby": "open"}, "/lobby"),
        ({"host_pin": "4711000"}, "/guest_pin"),
        ({"host_pin": "081500"}, "/guest_pin"),
        ({"host_pin": "471"}, "/host_pin"),
        ({"host_pin": "812345", "aliases": ["812345@acme.example.com"]}, "/host_pin"),
        ({"host_pin": "47110", "guest_pin": None}, "/host_pin"),
        ({"host_pin": "٤٧١١٠٠"}, "/host_pin"),
        ({"host_pin": "471100\n"}, "/host_pin"),
        ({"lobby": "none"}, "/guest_pin"),
        ({"title": "x" * 251}, "/title"),
        ({"title": "a\0b"}, "/title"),
        ({"title": "half \ud800"}, "/title"),
        ({"aliases": []}, "/aliases"),
        ({"aliases": "812345678@acme.example.com"}, "/aliases"),
        ({"aliases": ["812345678@acme.example.com", 8]}, "/aliases/1"),
        ({"aliases": ["8 1@acme.example.com"]}, "/aliases/0"),
        ({"aliases": ["8*@acme.example.com"]}, "/aliases/0"),
        ({"aliases": ["81@acme.example.com", "sip:81@ACME.example.com;x=y"]}, "/aliases/1"),
        ({"service": {"view": 7}}, "/service/view"),
        ({"service": {"pin": "123456"}}, "/service/pin"),
        ({"service": {"no_such_field": 1}}, "/service/no_such_field"),
        ({"cost_centre": "a&t=bolt"}, "/cost_centre"),
        ({"owner_email": "ann"}, "/owner_email"),
        ({"participant_limit": 0}, "/participant_limit"),
        ({"tite": "Review"}, "/tite"),
        ({"a/b~c": 1}, "/a~1b~0c"),
        ({"id": "crm-8"}, "/id"),
    ],
)
def test_a_fault_has_its_pointer(acme: TenantOf, fields: dict[str, Any], expected: str) -> None:
    assert faults(acme, {**REVIEW, **fields}) == [(422, expected)]


@pytest.mark.parametrize("body", [None, [], "text", 7])
def test_a_body_is_an_object(acme: TenantOf, body: Any) -> None:
    assert faults(acme, body) == [(422, "")]


def test_a_hostile_body_is_refused_soon(acme: TenantOf) -> None:
    deep: Any = {}
    for _ in range(900):
        deep = {"a": deep}
    many = {f"field{number}": number for number in range(8_000)}
    bodies = [{**REVIEW, "service": deep}, {**REVIEW, **many}, {**REVIEW, "service": many}]
    bodies += [{**REVIEW, "x" * 60_000: 1}, {**REVIEW, "service": {"view": ["\0"] * 20_000}}]
    begun = time.process_time()
    for body in bodies:
        assert 1 <= len(faults(acme, body)) <= 51
        found = patched(meeting(acme), body, acme, NOW)
        assert isinstance(found, list)
        assert len(found) <= 51
    assert time.process_time() - begun < 1.0


@pytest.mark.parametrize("meeting_id", ["", ".", "..", "a/b", "x" * 129, "é", "a\n"])
def test_an_id_has_few_characters(acme: TenantOf, meeting_id: str) -> None:
    assert (422, "/id") in faults(acme, REVIEW, meeting_id)


@pytest.mark.parametrize("alias", ["812345678@bolt.example.com", "912345678@acme.example.com"])
def test_a_foreign_alias_is_forbidden(acme: TenantOf, alias: str) -> None:
    assert faults(acme, {**REVIEW, "aliases": [alias]}) == [(403, "/aliases/0")]


def test_names_that_infinity_does_not_have_are_faults() -> None:
    infinity = InfinityTable(themes=["Oslo"], min_pin_length=8)
    context = {"infinity": infinity}
    settings = MeetingsSettings.model_validate({"tenants": TENANTS}, context=context)
    tenant = known_tenants(settings)[1]["acme"]
    fields = {"ivr_theme_name": "Oslo 2", "automatic_participants": [{"role": "chair"}]}
    pins = {"host_pin": None, "guest_pin": None}
    for name, value in fields.items():
        ((status, place),) = faults(tenant, {**REVIEW, **pins, "service": {name: value}})
        assert (status, place[: len(name) + 9]) == (422, f"/service/{name}")
    made = parsed(
        {**REVIEW, **pins, "service": {"ivr_theme_name": "Oslo"}}, tenant, NOW, meeting_id="a"
    )
    assert isinstance(made, Meeting)
    assert len(faults(tenant, REVIEW)) == 2


def test_what_is_shown_can_be_sent_again(acme: TenantOf) -> None:
    made = meeting(acme, service={"view": "one_main_zero_pips"}, series="weekly")
    again = parsed(shown(made, NOW, with_pins=True), acme, NOW, meeting_id="crm-7")
    assert again == made
    assert "471100" not in str(shown(made, NOW))
    assert shown(made, NOW)["start"] == "2030-06-01T08:00:00Z"


def test_left_out_pins_and_aliases_are_those_before_unless_they_cannot_be(acme: TenantOf) -> None:
    before = meeting(acme)
    times = {"start": REVIEW["start"], "end": REVIEW["end"]}

    def pins(**fields: Any) -> tuple[str, str]:
        found = parsed({**times, **fields}, acme, NOW, meeting_id="crm-7", base=before)
        assert isinstance(found, Meeting)
        assert found.aliases == before.aliases
        return found.host_pin, found.guest_pin

    assert pins() == ("471100", "081500")
    assert pins(host_pin="12345678") == ("12345678", "")
    assert pins(host_pin="081500") == ("081500", "")
    assert pins(lobby="none") == ("471100", "")


def test_a_patch_changes_what_it_names(acme: TenantOf) -> None:
    before = meeting(acme, title="Review", cost_centre="7")
    after = patched(before, {"title": None, "end": "2030-06-01T09:30:00Z"}, acme, NOW)
    assert isinstance(after, Meeting)
    assert (after.title, after.cost_centre, after.end) == ("", "7", at("09:30:00"))
    none = patched(before, {"lobby": "none"}, acme, NOW)
    assert isinstance(none, Meeting)
    assert none.guest_pin == ""
    wrong = patched(before, {"end": "2030-06-01T07:30:00Z"}, acme, NOW)
    assert isinstance(wrong, list)


def test_a_merge_patch_is_that_of_rfc_7396() -> None:
    target = {"a": "b", "c": {"d": "e", "f": "g"}}
    assert merge_patch(target, {"a": "z", "c": {"f": None}}) == {"a": "z", "c": {"d": "e"}}
    assert merge_patch({"a": [1]}, {"a": {"b": {"c": None}}}) == {"a": {"b": {}}}
    assert merge_patch({"a": 1}, ["c"]) == ["c"]


@pytest.mark.parametrize(
    ("time", "people", "expected"),
    [
        ("07:29:59", 0, "scheduled"),
        ("07:30:00", 0, "open"),
        ("09:59:59", 0, "open"),
        ("09:59:59", 2, "running"),
        ("10:00:00", 2, "ended"),
    ],
)
def test_the_state_follows_the_time(acme: TenantOf, time: str, people: int, expected: str) -> None:
    assert meeting(acme).state(at(time), people) == expected
