"""Rooms from CSV and TOML files, several aliases, validity, and PINs from elsewhere."""

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from multidict import MultiDict

from pexpolicy import Conference, Reject, ServiceConfigurationRequest
from pexpolicy.builder import policy_from
from pexpolicy_rooms.plugin import Rooms as Plugin
from pexpolicy_rooms.room_files import derived_pin
from pexpolicy_rooms.settings import DerivedPin, Settings

Build = Callable[..., Any]
Complaints = Callable[[dict[str, Any]], list[str]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


CSV = """\
aliases;name;pin;guest_pin;allow_guests;participant_limit;service_type;call_type
Clinic@Example.com 2301;Clinic;482913;170356;TRUE;30;;audio
town-hall@example.com;Town hall;;;;;lecture;
echo;Echo;;;;;test_call;
"""


def test_each_line_of_a_csv_file_is_a_room(build: Build, folder: Path) -> None:
    (folder / "rooms.csv").write_text(CSV)
    rooms = build({"csv": "rooms.csv"})
    clinic = rooms.ask("sip:clinic@example.com").result
    assert clinic == rooms.ask("2301").result
    assert clinic == {
        "name": "Clinic",
        "pin": "482913",
        "guest_pin": "170356",
        "allow_guests": True,
        "participant_limit": 30,
        "call_type": "audio",
        "service_tag": "",
        "service_type": "conference",
    }
    assert rooms.ask("town-hall@example.com").result["service_type"] == "lecture"
    assert rooms.ask("echo").result["service_type"] == "test_call"


def test_a_cell_may_hold_a_list_in_toml(build: Build, folder: Path) -> None:
    uuid = "3e4e1bd9-7439-4c53-8ca2-6ef1a8e34cfc"
    cell = f'"[""{uuid}""]"'
    (folder / "rooms.csv").write_text(
        f"aliases,name,breakout_rooms,breakout_uuids\nx,X,true,{cell}\n"
    )
    assert build({"csv": "rooms.csv"}).ask("x").result["breakout_uuids"] == [uuid]


def test_toml_files_hold_rooms_with_any_field(build: Build, folder: Path) -> None:
    (folder / "rooms.toml").write_text(
        '[[rooms]]\naliases = ["a@example.com", "a2"]\nname = "A"\n'
        '[[rooms.automatic_participants]]\nlocal_alias = "a"\nprotocol = "sip"\n'
        'remote_alias = "sip:rec@example.com"\nrole = "guest"\n\n'
        '[[rooms]]\naliases = "b c"\nname = "B"\n'
    )
    rooms = build({"files": ["rooms.toml"]})
    assert rooms.ask("a2").result["automatic_participants"][0]["role"] == "guest"
    assert rooms.ask("b").result == rooms.ask("c").result != rooms.ask("a2").result
    assert rooms.policy.files[-1] == folder / "rooms.toml" or (
        Path("rooms.toml") in rooms.policy.files
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[rooms]]\nname = "A"\n', "aliases: is missing"),
        ('[[rooms]]\naliases = 3\nname = "A"\n', "takes a list of aliases"),
        ('[[room]]\nname = "A"\n', "below a line [[rooms]]"),
        ('[[rooms]]\n\naliases = ["a"]\nnam = "A"\n', 'rooms.toml line 1".nam'),
    ],
)
def test_a_mistake_in_a_toml_file_is_named_with_its_line(
    complaints: Complaints, folder: Path, text: str, says: str
) -> None:
    (folder / "rooms.toml").write_text(text)
    assert any(says in said for said in complaints({"files": ["rooms.toml"]}))


def test_a_room_in_the_configuration_may_have_more_aliases(build: Build) -> None:
    rooms = build({"rooms": {"a@example.com": {"name": "A", "aliases": ["2301", "sip:B@x.org"]}}})
    assert rooms.ask("a@example.com").result == rooms.ask("2301").result
    assert rooms.ask("b@x.org").result["name"] == "A"
    assert "aliases" not in rooms.ask("b@x.org").result
    assert rooms.warnings() == []


def at(*moment: int) -> float:
    return datetime(*moment, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]


@pytest.mark.parametrize("outside", ["reject", "abstain"])
@pytest.mark.parametrize(
    ("begins", "ends", "now", "expected"),
    [
        ("2026-12-01", "2026-12-24", at(2026, 11, 30, 22, 59), "opens at 2026-11-30T23:00:00Z"),
        ("2026-12-01", "2026-12-24", at(2026, 11, 30, 23, 0), None),
        ("2026-12-01", "2026-12-24", at(2026, 12, 24, 22, 59, 59), None),
        ("2026-12-01", "2026-12-24", at(2026, 12, 24, 23, 0), "ended"),
        ("2026-12-01T08:00:00Z", None, at(2026, 12, 1, 7, 59), "opens at 2026-12-01T08:00:00Z"),
        ("2026-12-01T08:00:00Z", None, at(2026, 12, 1, 8, 0), None),
        (None, "2026-12-01T08:00", at(2026, 12, 1, 7, 0), "ended"),
        (None, "2026-12-01T08:00", at(2026, 12, 1, 6, 59), None),
    ],
)
async def test_a_room_exists_from_and_until(
    begins: str | None, ends: str | None, now: float, expected: str | None, outside: Any
) -> None:
    times = {"valid_from": begins, "valid_until": ends}
    table = {"name": "A", **{name: text for name, text in times.items() if text}}
    settings = Settings(
        rooms={"a": table}, default_room="D {local_alias}", zone="Europe/Oslo", outside=outside
    )
    plugin = Plugin(settings, clock=lambda: now)
    request = ServiceConfigurationRequest(MultiDict(local_alias="a", call_direction="dial_in"))
    decision = await plugin.service_configuration(request)
    if expected is None:
        assert isinstance(decision, Conference)
    elif outside == "abstain":
        assert decision is None, "not even the default room"
    else:
        assert isinstance(decision, Reject)
        assert decision.reason == expected


def test_a_room_of_the_past_is_a_warning_and_a_wrong_order_a_problem(
    build: Build, complaints: Complaints
) -> None:
    past = {"rooms": {"a": {"name": "A", "valid_until": "2020-01-01T00:00:00Z"}}}
    assert build(past).warnings() == [
        "rooms.a.valid_until: is in the past: the room does not exist"
    ]
    past["rooms"]["a"]["valid_from"] = "2021-01-01T00:00:00Z"
    assert complaints(past) == ["rooms.a.valid_until: is not after valid_from"]


@pytest.mark.parametrize("begins", ["0001-01-01", "0001-01-01T00:00:00+05:00"])
@pytest.mark.parametrize(
    "ends", ["9999-12-31", "9999-12-31T23:59:59", "9999-12-31T23:59:59-05:00", date.max]
)
def test_the_first_and_the_last_year_are_no_limits(begins: Any, ends: Any) -> None:
    table = {"name": "A", "valid_from": begins, "valid_until": ends}
    (entry,) = Plugin(Settings(rooms={"a": table})).room_entries()
    assert entry.valid == ""


def test_pins_come_from_a_file_of_their_own(
    build: Build, complaints: Complaints, folder: Path
) -> None:
    (folder / "rooms.csv").write_text("aliases,name,pin\na 2301,A,\nb,B,999999\n")
    (folder / "pins.csv").write_text("alias,pin,guest_pin\nsip:2301,123456,\nB,654321,\n")
    rooms = build({"csv": "rooms.csv", "pins": "pins.csv"})
    assert rooms.ask("a").result["pin"] == "123456"
    assert rooms.ask("b").result["pin"] == "999999", "its own comes first"
    (folder / "pins.csv").write_text("alias,pin\nz,123456\na,12ab\n")
    said = "\n".join(complaints({"csv": "rooms.csv", "pins": "pins.csv"}))
    assert "pins.csv line 2: no room has the alias z" in said
    assert "digits" in said
    (folder / "pins.csv").write_text("alias,pin\na,123456\nsip:A,654321\n")
    (said,) = complaints({"csv": "rooms.csv", "pins": "pins.csv"})
    assert "pins.csv line 3: the alias a has PINs in line 2 already" in said
    (folder / "pins.csv").write_text("alias,pin\nb,123456\na,123456\n2301,654321\n")
    (said,) = complaints({"csv": "rooms.csv", "pins": "pins.csv"})
    assert "pins.csv line 4: its room has PINs in line 3 already" in said
    assert "12ab" not in said


@pytest.mark.parametrize(
    ("recipe", "pin"),
    [({"digits": 7}, "3998472"), ({"digits": 10, "order": "text-secret"}, "7470125694")],
)
def test_calculated_pins_are_those_of_pex_hash(
    build: Build, folder: Path, recipe: dict[str, Any], pin: str
) -> None:
    (folder / "pin.key").write_text("mysecretkey\n")
    table = {"derive": "sha256", "secret_file": "pin.key", **recipe}
    shared = build({"rooms": {"0000001@example.com": {"name": "A"}}, "pin": table})
    assert [text.split(":")[0] for text in shared.warnings()] == ["pin.secret_file", "pin.derive"]
    own = build({"rooms": {"a": {"name": "0000001", "pin": {**table, "of": "name"}}}})
    assert shared.ask("0000001").result["pin"] == pin
    assert own.ask("a").result["pin"] == pin


SECRET = b"0123456789abcdef"


@pytest.mark.parametrize("digits", [4, 6, 13, 20])
def test_hmac_pins_are_those_of_the_standard_and_equally_likely(digits: int) -> None:
    recipe = DerivedPin(derive="hmac", secret_file=Path("k"), digits=digits)
    texts = [f"room-{n}" for n in range(20_000)]
    pins = [derived_pin(recipe, SECRET, text) for text in texts]
    for pin, text in zip(pins[:50], texts, strict=False):
        number = int(hmac.new(SECRET, text.encode(), hashlib.sha256).hexdigest(), 16)
        assert pin == str(number % 10**digits).zfill(digits)
    for place in (0, 1, digits - 1):
        count = Counter(pin[place] for pin in pins)
        assert len(count) == 10
        assert all(abs(seen - 2_000) < 250 for seen in count.values()), "5.9 times its deviation"


@pytest.mark.parametrize("digits", [4, 5, 8])
def test_the_warning_of_sha256_counts_the_pins_that_open_15_percent(
    build: Build, folder: Path, digits: int
) -> None:
    (folder / "pin.key").write_bytes(SECRET)
    table = {"derive": "sha256", "secret_file": "pin.key", "digits": digits}
    said = "".join(
        build({"rooms": {"a": {"name": "A"}, "b": {"name": "B"}}, "pin": table}).warnings()
    )
    (shown,) = re.findall(r"pin.derive: ([\d,]+) of", said)
    count = int(shown.replace(",", ""))
    recipe = DerivedPin(derive="sha256", secret_file=Path("k"), digits=digits)
    pins = [int(derived_pin(recipe, SECRET, str(n))) for n in range(20_000)]
    first = 10 ** (digits - 1)
    assert min(pins) >= first
    assert 0.14 < sum(pin < first + count for pin in pins) / len(pins) < 0.16


def test_what_a_pin_cannot_be_calculated_from_is_named(
    complaints: Complaints, folder: Path
) -> None:
    rooms = {"a": {"name": "A"}}
    missing = {"derive": "sha256", "secret_file": "pin.key"}
    assert any("cannot be read" in said for said in complaints({"rooms": rooms, "pin": missing}))
    (folder / "pin.key").write_text("mysecretkey\n")
    (said_short,) = complaints({"rooms": rooms, "guest_pin": {**missing, "derive": "hmac"}})
    assert said_short.startswith("guest_pin.secret_file: its 11 bytes can be guessed")
    (said_order,) = complaints({"pin": {**missing, "derive": "hmac", "order": "text-secret"}})
    assert 'order belongs to derive = "sha256"' in said_order
    said = complaints({"rooms": rooms, "pin": {**missing, "of": "service_tag"}})
    assert said == ["rooms.a.pin: cannot be calculated: the room has no service_tag"]
    own = {"a": {"name": "A", "pin": {**missing, "digit": 6}}}
    (said_own,) = complaints({"rooms": own})
    assert said_own == "rooms.a.pin.digit: unknown key; did you mean 'digits'?"


def test_a_room_without_guests_gets_no_guest_pin(build: Build, folder: Path) -> None:
    (folder / "pin.key").write_text("mysecretkey\n")
    recipe = {"derive": "sha256", "secret_file": "pin.key", "digits": 8}
    tables = {"a": {"name": "A"}, "b": {"name": "B", "allow_guests": True}}
    rooms = build({"rooms": tables, "pin": recipe, "guest_pin": {**recipe, "order": "text-secret"}})
    assert "guest_pin" not in rooms.ask("a").result
    assert len(rooms.ask("b").result["guest_pin"]) == 8


@pytest.mark.parametrize("place", ["rooms.csv", "policy/rooms.csv", "/rooms.csv"])
def test_a_changed_file_is_part_of_the_configuration_from_any_folder(
    folder: Path, place: str
) -> None:
    path = folder / "policy" / "config.toml"
    path.parent.mkdir()
    (path.parent / "policy").mkdir()
    name = place if place[0] != "/" else f"{path.parent}{place}"
    (path.parent / name).write_text("aliases,name\na,A\n")
    path.write_text(f"[plugins.rooms.settings]\ncsv = '{name}'\n")
    hashes = set()
    for room in ("A", "B"):
        (path.parent / name).write_text(f"aliases,name\na,{room}\n")
        for written in (Path("policy/config.toml"), path, Path("policy/../policy/config.toml")):
            policy = policy_from(written)
            policy.close()
            assert any(file.samefile(path.parent / name) for file in policy.files if file.exists())
            hashes.add(policy.policy_hash)
    assert len(hashes) == 2
