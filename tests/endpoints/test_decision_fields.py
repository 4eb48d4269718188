"""Fields of a decision, as a setting of a plugin and as a row of a table."""

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy import (
    UNSET,
    AliasMap,
    Conference,
    DecisionError,
    Lecture,
    MediaLocation,
    MediaPlayback,
    ParticipantProperties,
    Plugin,
    PluginSettings,
    Service,
    ServiceConfigurationRequest,
)
from pexpolicy.fields import FieldsOf
from pexpolicy.rows import RowValues
from pexpolicy.testing import ConfigError, decide_sync, make_policy, make_request


class Settings(PluginSettings):
    look: FieldsOf[Conference] = FieldsOf(Conference)
    rooms: AliasMap[FieldsOf[Service]] = AliasMap()
    overflow: list[FieldsOf[MediaLocation]] = []


class Rooms(Plugin[Settings]):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.rooms = {
            alias: fields.decision(service_tag="room", reason="a room")
            for alias, fields in settings.rooms.items()
        }
        self.locations = [fields.decision() for fields in settings.overflow]

    async def service_configuration(self, request: ServiceConfigurationRequest) -> Service:
        room = self.rooms.get(request.local_alias)
        return room or self.settings.look.decision(name=request.local_alias, service_tag="look")


def decided(toml: str, alias: str) -> Any:
    request = make_request("service_configuration", local_alias=alias)
    outcome = decide_sync((Rooms, tomllib.loads(toml)), request)
    assert outcome.decided_by == "rooms", outcome.steps
    return outcome.decision


def problems(toml: str, **infinity: Any) -> list[str]:
    try:
        make_policy((Rooms, tomllib.loads(toml)), config={"infinity": infinity}).close()
    except ConfigError as error:
        return [str(p).removeprefix("plugins.rooms.settings.") for p in error.problems]
    return []


def test_the_plugin_adds_what_is_missing() -> None:
    toml = 'look = {ivr_theme_name = "Blue", pin = "4711"}'
    assert decided(toml, "garden") == Conference(
        name="garden", service_tag="look", ivr_theme_name="Blue", pin="4711"
    )
    assert decided("", "garden") == Conference(name="garden", service_tag="look")


def test_a_service_is_of_its_kind() -> None:
    toml = """
    rooms."sip:Garden@Example.com" = {name = "Garden"}
    rooms.hall = {service_type = "lecture", name = "Hall"}
    """
    garden, hall = decided(toml, "garden@example.com"), decided(toml, "hall")
    assert garden == Conference(name="Garden", service_tag="room")
    assert hall == Lecture(name="Hall", service_tag="room")
    assert garden.reason == "a room"


def test_fields_that_the_plugin_gives_replace_those_of_the_setting() -> None:
    fields = FieldsOf(Conference, {"name": "a", "pin": "1234"})
    decision = fields.decision(pin=UNSET, name="b", service_tag="")
    assert decision == Conference(name="b", service_tag="")
    assert dict(fields) == {"name": "a", "pin": "1234"}


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("look.pin = 4711", "look.pin: must be a PIN as text"),
        ('look.pinn = "4711"', "look.pinn: there is no field 'pinn' in Conference; did you mean"),
        ('look.service_type = "lecture"', "look.service_type: must be 'conference'"),
        ('look.reason = "x"', "look.reason: there is no field 'reason' in Conference"),
        ("look = 3", "look: should be a table, not 3"),
        ('rooms.a = {service_type = "lektur"}', "rooms.a.service_type: 'lektur' is not one of"),
        ('rooms.a = {host_view = "x"}', "rooms.a.host_view: there is no field 'host_view' in Conf"),
        ("rooms.a = {}", "rooms.a.name: is required"),
        ('overflow = [{location = "a"}, {}]', "overflow[1].location: is required"),
        (
            'rooms.a = {name = "a", automatic_participants = [{local_alias = "b"}]}',
            "rooms.a.automatic_participants[0].remote_alias: is required",
        ),
    ],
)
def test_each_mistake_has_its_key(toml: str, expected: str) -> None:
    found = problems(toml)
    assert found
    assert found[0].startswith(expected)
    assert "4711" not in found[0]


def test_all_mistakes_are_reported_at_once() -> None:
    toml = 'look = {pin = 1, view = 2}\nrooms.a = {name = 3}\nrooms.b = {locked = "no"}'
    assert [text.partition(":")[0] for text in problems(toml)] == [
        "look.pin",
        "look.view",
        "rooms.a.name",
        "rooms.b.locked",
    ]
    assert [text.partition(":")[0] for text in problems("rooms.a = {}\nrooms.b = {}")] == [
        "rooms.a.name"
    ]


def test_extra_fields_of_infinity_are_accepted() -> None:
    toml = 'rooms.a = {name = "a", new_field = 1}'
    assert "there is no field 'new_field'" in problems(toml)[0]
    assert problems(toml, extra_fields=["new_field"]) == []


def test_fields_made_in_code_are_checked_by_their_decision() -> None:
    with pytest.raises(DecisionError, match="name: is required"):
        FieldsOf(Conference, {"service_tag": ""}).decision()


def test_no_secret_is_shown() -> None:
    assert "4711" not in repr(FieldsOf(Conference, {"pin": "4711"}))


VALUES = RowValues(Conference)


@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        ("name", "12", "12"),
        ("pin", "0042", "0042"),
        ("allow_guests", 1, True),
        ("allow_guests", 0, False),
        ("allow_guests", "TRUE", True),
        ("allow_guests", "WAHR", True),
        ("allow_guests", "Falsch", False),
        ("allow_guests", "VRAI", True),
        ("allow_guests", "FAUX", False),
        ("allow_guests", "nein", False),
        ("name", "WAHR", "WAHR"),
        ("allow_guests", 2, 2),
        ("allow_guests", "maybe", "maybe"),
        ("participant_limit", 1, 1),
        ("participant_limit", "30", 30),
        ("breakout_uuids", '["a", "b"]', ["a", "b"]),
        ("automatic_participants", '[{"role": "guest"}]', [{"role": "guest"}]),
        ("automatic_participants", '[{role = "guest"}]', [{"role": "guest"}]),
        ("automatic_participants", [{"role": "guest"}], [{"role": "guest"}]),
        ("unknown", "7", 7),
    ],
)
def test_a_cell_has_the_type_of_its_field(field: str, value: object, read: object) -> None:
    found = VALUES.of({field: value, "pin": None} if field != "pin" else {field: value})
    assert found == {field: read}
    assert type(found[field]) is type(read)


def test_a_number_in_a_field_of_numbers_and_words_stays() -> None:
    assert RowValues(ParticipantProperties).of({"spotlight": 1}) == {"spotlight": 1}


def test_an_object_may_be_in_a_field_that_takes_text() -> None:
    values = RowValues(MediaPlayback)
    for cell in ('{"disconnect": true}', "{disconnect = true}"):
        assert values.of({"on_completion": cell}) == {"on_completion": {"disconnect": True}}
    assert values.of({"on_completion": "text", "name": "{}"}) == {
        "on_completion": "text",
        "name": "{}",
    }


@given(st.text())
def test_no_text_stops_the_reading(text: str) -> None:
    VALUES.of({"participant_limit": text, "name": text})


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2), max_size=3))
def test_json_is_read_back(value: list[dict[str, str]]) -> None:
    assert VALUES.of({"automatic_participants": json.dumps(value)}) == {
        "automatic_participants": value
    }
